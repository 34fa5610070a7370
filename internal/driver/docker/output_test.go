package docker

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
)

// What is written comes out, in order, and no more than the room waits.
func TestBacklog(t *testing.T) {
	b := newBacklog(1000)
	b.bound(true)
	var want, got bytes.Buffer
	var all sync.WaitGroup
	all.Go(func() {
		random := rand.New(rand.NewPCG(1, 2))
		for range 1000 {
			chunk := bytes.Repeat([]byte{byte(random.IntN(256))}, random.IntN(300))
			want.Write(chunk)
			_, _ = b.Write(chunk)
		}
		b.end()
	})
	_, err := io.Copy(&got, b)
	all.Wait()
	if err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%d bytes came, want %d (%v)", got.Len(), want.Len(), err)
	}
}

func TestBacklogHoldsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBacklog(1000)
		chunk, written := make([]byte, 600), 0
		write := func() {
			_, _ = b.Write(chunk)
			written++
		}
		for range 5 { // without a bound
			write()
		}
		b.bound(true)
		go write()
		synctest.Wait()
		if written != 5 {
			t.Errorf("%d were written into a full backlog", written-5)
		}
		for range 4 {
			_, _ = io.ReadFull(b, chunk)
		}
		synctest.Wait()
		if written != 6 {
			t.Error("there is room, and it waits")
		}
		go write() // 1200 wait
		synctest.Wait()
		if written != 6 {
			t.Errorf("%d were written into a full backlog", written-6)
		}
		b.bound(false)
		synctest.Wait()
		if written != 7 {
			t.Error("without a bound it waits")
		}
	})
}
