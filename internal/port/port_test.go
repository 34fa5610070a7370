package port

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestFreePortsAreFree(t *testing.T) {
	free, err := Free()
	if err != nil {
		t.Fatal(err)
	}
	if err := Check("", free); err != nil {
		t.Error(err)
	}
}

// A port that is held on one address of this machine only counts for all of them.
func TestWhoHoldsAPort(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	held := lis.Addr().(*net.TCPAddr).Port
	want := fmt.Sprintf("port %d is held by pid %d (%s)", held, os.Getpid(), filepath.Base(self))
	for _, address := range []string{"", "127.0.0.1"} {
		if err := Check(address, held); err == nil || err.Error() != want {
			t.Errorf("at %q: %v, want %q", address, err, want)
		}
	}
	if err := Check("127.0.0.2", held); err != nil {
		t.Errorf("at another address: %v", err)
	}
}
