package cli

import (
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/shellscript"
)

// toScript translates a pipeline to a shell script.
func (a *app) toScript(p *pipeline.Pipeline) (translation, error) {
	script, err := shellscript.New(p, a.Env)
	if err != nil {
		return translation{}, err
	}
	done := translation{WriterTo: script}
	for _, l := range script.Losses {
		done.losses = append(done.losses, l.String())
	}
	for _, s := range script.Secrets {
		done.secrets = append(done.secrets, s.Variable+": "+s.Of)
	}
	return done, nil
}
