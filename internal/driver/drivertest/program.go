package drivertest

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// variable names the behaviour that a test program is to show.
const variable = "DRIVERTEST_BEHAVIOUR"

// Main shows a behaviour and ends the process, if the environment asks for one.
// TestMain of a package that calls Run calls it first: its test binary is the
// program that the suite runs on the host.
func Main() {
	words := strings.Fields(os.Getenv(variable))
	if len(words) == 0 {
		return
	}
	behaviours[words[0]](words[1:])
	os.Exit(0)
}

// behaviours are what components do, for better or worse.
var behaviours = map[string]func(args []string){
	"exit": func(args []string) {
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	},
	"print": func([]string) {
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
	},
	"count": func(args []string) {
		n, _ := strconv.Atoi(args[0])
		for i := range n {
			fmt.Println(i)
		}
	},
	"long": func(args []string) {
		n, _ := strconv.Atoi(args[0])
		fmt.Print(strings.Repeat("x", n))
	},
	"environment": func([]string) {
		dir, _ := os.Getwd()
		dir, _ = filepath.EvalSymlinks(dir)
		fmt.Println(os.Getenv("GREETING"), dir)
	},
	"kill-self": func([]string) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	},
	"polite": func([]string) { // ends with code 7 when asked to
		await(syscall.SIGTERM, syscall.SIGINT)
		fmt.Println("goodbye")
		os.Exit(7)
	},
	"usr1": func([]string) {
		await(syscall.SIGUSR1)
		os.Exit(8)
	},
	"deaf": func([]string) { // ignores every polite signal
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		fmt.Println("up")
		sleep()
	},
	"child": func(args []string) { // a parent that leaves a child behind, which shows the behaviour given
		child(args, &syscall.SysProcAttr{})
		fmt.Println("up")
		await(syscall.SIGTERM)
	},
	"orphan": func(args []string) { // the same, but the parent ends at once
		child(args, &syscall.SysProcAttr{})
	},
	"shepherd": func(args []string) { // a parent that only waits for its child, like npm
		signal.Ignore(syscall.SIGTERM)
		cmd := child(args, &syscall.SysProcAttr{})
		_ = cmd.Wait()
		os.Exit(cmd.ProcessState.ExitCode())
	},
	"runaway": func(args []string) { // a child with a session of its own, which keeps the pipe open
		child(args, &syscall.SysProcAttr{Setsid: true})
		fmt.Println("last words")
	},
	"sleep": func([]string) { sleep() },
}

func await(sigs ...os.Signal) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, sigs...)
	fmt.Println("up")
	<-c
}

// sleep lasts longer than any test, and no longer than a forgotten process may.
func sleep() { time.Sleep(time.Minute) }

func child(args []string, attr *syscall.SysProcAttr) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+strings.Join(args, " "))
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = os.Stdout, os.Stderr, attr
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("child", cmd.Process.Pid)
	return cmd
}
