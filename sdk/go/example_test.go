package flowctl_test

import (
	"context"
	"fmt"
	"log"

	flowctl "github.com/withobsrvr/flowctl/sdk/go"
)

// A complete component: it joins, works until it is told to stop, counts what
// it does, and leaves.
func Example() {
	m, err := flowctl.Join(context.Background(), flowctl.Component{ID: "doubler", Role: flowctl.Processor})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Leave()
	for n := 1; n <= 3 && m.Context().Err() == nil; n++ {
		fmt.Println(2 * n)
		m.Count("numbers", 1)
	}
	// Output:
	// 2
	// 4
	// 6
}
