// Command component is what the tests of the docker driver run in containers: the
// program of drivertest, and what only containers are asked to do.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
)

func main() {
	drivertest.Main()
	behaviours[os.Args[1]](os.Args[2:])
}

var behaviours = map[string]func(args []string){
	"burst": func(args []string) { // so many bytes in lines of 120, in all sizes of writes
		n := number(args[0])
		out := bufio.NewWriterSize(os.Stdout, 60_000)
		line := bytes.Repeat([]byte("x"), 119)
		for i := 0; i < n; i += 120 {
			_, _ = out.Write(append(line, '\n'))
		}
		_ = out.Flush()
	},
	"both": func(args []string) { // the two streams in turn
		for i := range number(args[0]) {
			fmt.Println("out", i)
			fmt.Fprintln(os.Stderr, "err", i)
		}
	},
	"eat": func([]string) { // all the memory there is
		var eaten [][]byte
		for {
			eaten = append(eaten, bytes.Repeat([]byte("x"), 1<<20))
		}
	},
	"untouched": func([]string) { // by signals it does not handle; it does not handle any
		fmt.Println("up")
		time.Sleep(time.Minute)
	},
	"serve": func(args []string) { // answers on a port until SIGTERM
		listener, err := net.Listen("tcp", ":"+args[0])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				fmt.Fprintln(conn, "hello")
				conn.Close()
			}
		}()
		fmt.Println("up")
		<-asked
	},
	"fetch": func(args []string) { // what an address serves
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_, _ = bufio.NewReader(conn).WriteTo(os.Stdout)
	},
	"write": func(args []string) { // a file
		if err := os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")), 0o644); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	},
	"read": func(args []string) {
		content, err := os.ReadFile(args[0])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_, _ = os.Stdout.Write(content)
	},
	"identify": func([]string) { fmt.Println("user", os.Getuid(), "group", os.Getgid(), "process", os.Getpid()) },
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}
