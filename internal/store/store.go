// Package store keeps what a registry knows in a bbolt database. It owns the
// file: its lock, its schema, and what is said when it cannot be used. What the
// data means is the registry's business.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/withobsrvr/flowctl/internal/registry"
)

// lockTimeout is how long a database that somebody else uses is waited for.
const lockTimeout = 500 * time.Millisecond

// The buckets: what is in meta names the schema, the others are keyed by ids.
var (
	metaBucket     = []byte("meta")
	servicesBucket = []byte("services")
	beatsBucket    = []byte("beats")
	runsBucket     = []byte("runs")
)

// Bolt is a registry.Store in a bbolt database.
type Bolt struct{ db *bbolt.DB }

// Open opens the database at path, which is made if there is none, brings its
// schema up to date and returns what it holds. The error is an *UnusableError.
func Open(path string) (*Bolt, registry.Saved, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, registry.Saved{}, &UnusableError{Path: path, Reason: "its folder cannot be made", err: err}
	}
	db, err := open(path, false)
	if err != nil {
		return nil, registry.Saved{}, err
	}
	var saved registry.Saved
	err = guarded(path, func() error {
		if err := db.View(complete); err != nil {
			return err
		}
		if err := upgrade(db); err != nil {
			return err
		}
		return db.View(func(tx *bbolt.Tx) (err error) {
			saved, err = load(tx)
			return err
		})
	})
	if err != nil {
		_ = db.Close()
		return nil, registry.Saved{}, err
	}
	return &Bolt{db}, saved, nil
}

// open opens the file and takes its lock, a shared one if it is only to be read.
func open(path string, readOnly bool) (*bbolt.DB, error) {
	var db *bbolt.DB
	err := guarded(path, func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: readOnly, FreelistType: bbolt.FreelistMapType})
		return err
	})
	return db, err
}

// guarded does something with a database and says why it cannot be used. A file
// that was cut off or written over shows as a fault of the memory it is mapped
// to, or as a panic of bbolt.
func guarded(path string, do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = unusable(path, fmt.Errorf("%w: %v", errTorn, p))
		}
	}()
	if err := do(); err != nil {
		return unusable(path, err)
	}
	return nil
}

// Close releases the file.
func (b *Bolt) Close() error { return b.db.Close() }

// Save implements registry.Store: one transaction, on the disk when it returns.
func (b *Bolt) Save(batch registry.Batch) error {
	err := b.db.Update(func(tx *bbolt.Tx) error { return save(tx, batch) })
	if err != nil {
		return fmt.Errorf("write %s: %w", b.db.Path(), err)
	}
	return nil
}

func save(tx *bbolt.Tx, batch registry.Batch) error {
	services, beats, runs := tx.Bucket(servicesBucket), tx.Bucket(beatsBucket), tx.Bucket(runsBucket)
	for i := range batch.Services {
		s := &batch.Services[i]
		if err := put(services, s.ID, storedService(s)); err != nil {
			return err
		}
		// It is as new as any heartbeat.
		if err := beats.Delete([]byte(s.ID)); err != nil {
			return err
		}
	}
	for _, beat := range batch.Beats {
		if err := put(beats, beat.ID, storedBeat{beat.LastSeen, finite(beat.Metrics)}); err != nil {
			return err
		}
	}
	for i := range batch.Runs {
		if err := put(runs, batch.Runs[i].ID, storedRun(&batch.Runs[i])); err != nil {
			return err
		}
	}
	for _, id := range batch.Deleted {
		if err := errors.Join(services.Delete([]byte(id)), beats.Delete([]byte(id))); err != nil {
			return err
		}
	}
	for _, id := range batch.DeletedRuns {
		if err := runs.Delete([]byte(id)); err != nil {
			return err
		}
	}
	return nil
}

// complete reports a file that was cut off: what lies behind its end must not be read.
func complete(tx *bbolt.Tx) error {
	info, err := os.Stat(tx.DB().Path())
	if err == nil && info.Size() < tx.Size() {
		err = fmt.Errorf("%w: it was cut off at %d of %d bytes", errTorn, info.Size(), tx.Size())
	}
	return err
}

func put(bucket *bbolt.Bucket, id string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", id, err)
	}
	return bucket.Put([]byte(id), text)
}

// load reads everything.
func load(tx *bbolt.Tx) (registry.Saved, error) {
	var saved registry.Saved
	beats := tx.Bucket(beatsBucket)
	err := tx.Bucket(servicesBucket).ForEach(func(id, text []byte) error {
		var s service
		if err := json.Unmarshal(text, &s); err != nil {
			return fmt.Errorf("%w: service %q: %v", errTorn, id, err)
		}
		restored := s.restore(string(id))
		if text := beats.Get(id); text != nil {
			var beat storedBeat
			if err := json.Unmarshal(text, &beat); err != nil {
				return fmt.Errorf("%w: heartbeat of %q: %v", errTorn, id, err)
			}
			restored.LastSeen, restored.Metrics = beat.LastSeen, beat.Metrics
		}
		saved.Services = append(saved.Services, restored)
		return nil
	})
	if err != nil {
		return registry.Saved{}, err
	}
	err = tx.Bucket(runsBucket).ForEach(func(id, text []byte) error {
		var r run
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("%w: run %q: %v", errTorn, id, err)
		}
		saved.Runs = append(saved.Runs, r.restore(string(id)))
		return nil
	})
	slices.SortStableFunc(saved.Runs, func(a, b registry.PipelineRun) int { return a.Start.Compare(b.Start) })
	return saved, err
}

// Report is what Check has found.
type Report struct {
	Schema   int `json:"schema"`
	Services int `json:"services"`
	// Gone are the services whose history alone is kept.
	Gone int   `json:"gone"`
	Runs int   `json:"runs"`
	Size int64 `json:"size_bytes"`
}

// Check reads all that a database holds, changes nothing, and returns how much
// there is. The error is an *UnusableError.
//
// bbolt's own check looks at unused pages as well, but does so in a goroutine of
// its own, whose faults on a damaged file nobody can catch.
func Check(path string) (Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Report{}, unusable(path, err)
	}
	db, err := open(path, true)
	if err != nil {
		return Report{}, err
	}
	defer db.Close()
	report := Report{Size: info.Size()}
	err = guarded(path, func() error {
		return db.View(func(tx *bbolt.Tx) error {
			if err := complete(tx); err != nil {
				return err
			}
			if report.Schema, err = schemaOf(tx); err != nil {
				return err
			}
			if report.Schema < schema {
				return nil // it is read when it has been brought up to date
			}
			saved, err := load(tx)
			for _, s := range saved.Services {
				if s.Gone {
					report.Gone++
				} else {
					report.Services++
				}
			}
			report.Runs = len(saved.Runs)
			return err
		})
	})
	return report, err
}
