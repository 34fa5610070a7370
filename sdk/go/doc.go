// Package flowctl is for authors of components. Join makes a program a member
// of a pipeline: it serves the health endpoint, registers with the control
// plane, sends heartbeats with metrics, and registers again when the control
// plane has forgotten it. Leave ends all that in good order.
//
//	func main() {
//		m, err := flowctl.Join(context.Background(), flowctl.Component{
//			ID:      "my-processor",
//			Role:    flowctl.Processor,
//			Inputs:  []string{"raw.ledger"},
//			Outputs: []string{"token.transfer"},
//		})
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer m.Leave()
//		for ledger := range ledgers(m.Context()) { // ends on SIGTERM
//			process(ledger)
//			m.Count("ledgers", 1)
//		}
//	}
//
// A component is told by its environment who it is and where its control plane
// is; see Join. Without a control plane it works on, alone.
package flowctl
