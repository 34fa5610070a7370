package probe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// maxBody is how much of an answer is read for its verdict.
const maxBody = 64 << 10

// HTTP asks for a 2xx answer from url. An answer that is a JSON object with a
// field "status" is believed: unhealthy and starting are failures, degraded is
// Degraded. Redirects are not followed and no proxy is used.
func HTTP(url string) Probe {
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return brief(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode < 200 || resp.StatusCode > 299 {
			return fmt.Errorf("GET %s answered %s", url, resp.Status)
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		if err != nil {
			return fmt.Errorf("GET %s: the answer broke off: %w", url, brief(err))
		}
		return verdict(body)
	}
}

// verdict reads a health answer; anything that is no JSON object says nothing.
func verdict(body []byte) error {
	var answer struct{ Status, Reason, Message string }
	if json.Unmarshal(body, &answer) != nil {
		return nil
	}
	reason := cmp.Or(answer.Reason, answer.Message)
	switch answer.Status {
	case "unhealthy", "starting":
		if reason != "" {
			reason = ": " + reason
		}
		return fmt.Errorf("it says it is %s%s", answer.Status, reason)
	case "degraded":
		return Degraded{Reason: cmp.Or(reason, "it says so")}
	}
	return nil
}

// brief leaves out what a reader of a probe's failure knows already.
func brief(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return fmt.Errorf("%s: %w", op.Addr, cause(op.Err))
	}
	return err
}

// cause is the innermost error: "connection refused" without the system call.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
