package store

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"
)

// UnusableError says why a database cannot be used, and what to do.
type UnusableError struct {
	Path string
	// Reason is one clause.
	Reason string
	err    error
}

func (e *UnusableError) Error() string {
	text := fmt.Sprintf("the database %s cannot be used: %s", e.Path, e.Reason)
	if e.err != nil {
		text += ": " + e.err.Error()
	}
	return text
}

// Unwrap returns the cause, if there is one.
func (e *UnusableError) Unwrap() error { return e.err }

// Environment reports that the machine is to blame, not who asked.
func (e *UnusableError) Environment() bool { return true }

// What may be wrong with a database, beside what the system says.
var (
	errTorn    = errors.New("its content is damaged")
	errForeign = errors.New("it was not made by flowctl")
	errNewer   = errors.New("it was written by a newer flowctl")
)

const remedy = "move it away to begin with an empty one"

// unusable puts err into words.
func unusable(path string, err error) error {
	var known *UnusableError
	var system *fs.PathError
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, bolterrors.ErrTimeout):
		return &UnusableError{Path: path, Reason: "it is in use by " + holder(path) + "; stop that one, or choose another with --db-path"}
	case errors.Is(err, bolterrors.ErrInvalid):
		return &UnusableError{Path: path, Reason: "it is no bbolt database, or was cut off; " + remedy}
	case errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, errTorn):
		return &UnusableError{Path: path, Reason: "it is damaged; " + remedy, err: err}
	case errors.Is(err, errForeign):
		return &UnusableError{Path: path, Reason: "it is a bbolt database, but not flowctl's; choose another with --db-path"}
	case errors.Is(err, errNewer):
		return &UnusableError{Path: path, Reason: err.Error() + "; use that one, or " + remedy}
	case errors.Is(err, syscall.EISDIR):
		return &UnusableError{Path: path, Reason: "it is a folder"}
	case errors.As(err, &system):
		return &UnusableError{Path: path, err: system.Err, Reason: "it cannot be opened"}
	default:
		return &UnusableError{Path: path, err: err, Reason: "reading or writing it fails"}
	}
}
