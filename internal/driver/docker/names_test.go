package docker

import "testing"

func TestNames(t *testing.T) {
	for _, test := range []struct{ pipeline, run, component, want string }{
		{"ttp", "ttp-abcd", "sink", "flowctl-ttp-abcd-sink-2"},
		{"ttp", "nightly", "sink", "flowctl-ttp-nightly-sink-2"},
		{"a.b_c", "a.b_c-1", "x.y_z-", "flowctl-a.b_c-1-x.y_z--2"},
		{"-", "-", "é/ ", "flowctl---------2"},
	} {
		d := New(Options{Pipeline: test.pipeline, Run: test.run})
		if got := d.containerName(test.component, 2); got != test.want {
			t.Errorf("%s, %s, %s: %s, want %s", test.pipeline, test.run, test.component, got, test.want)
		}
	}
}
