package store

import (
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"
)

// schema is the version of what is in the database. A database of an older one
// is brought up to date when it is opened, by the steps from its version on; one
// of a newer is left alone.
const schema = 1

// steps bring a database from the version of their index to the next. The first
// makes an empty file flowctl's.
var steps = [schema]func(*bbolt.Tx) error{
	func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{metaBucket, servicesBucket, beatsBucket, runsBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket).Put(formatKey, []byte(format))
	},
}

// The keys of meta: what wrote the database, and its schema.
var formatKey, schemaKey = []byte("format"), []byte("schema")

const format = "flowctl control plane"

// schemaOf returns the database's version: 0 for an empty file.
func schemaOf(tx *bbolt.Tx) (int, error) {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		if name, _ := tx.Cursor().First(); name != nil {
			return 0, errForeign
		}
		return 0, nil
	}
	if string(meta.Get(formatKey)) != format {
		return 0, errForeign
	}
	version, err := strconv.Atoi(string(meta.Get(schemaKey)))
	if err != nil || version < 1 {
		return 0, fmt.Errorf("%w: its schema is %q", errTorn, meta.Get(schemaKey))
	}
	if version > schema {
		return 0, fmt.Errorf("%w (schema %d, this one knows %d)", errNewer, version, schema)
	}
	return version, nil
}

// upgrade brings the database up to date, if it is not.
func upgrade(db *bbolt.DB) error {
	var version int
	err := db.View(func(tx *bbolt.Tx) (err error) {
		version, err = schemaOf(tx)
		return err
	})
	if err != nil || version == schema {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error { return upgradeBy(tx, version, steps[:]) })
}

// upgradeBy makes the steps from a version on and notes how far they lead.
func upgradeBy(tx *bbolt.Tx, version int, steps []func(*bbolt.Tx) error) error {
	for ; version < len(steps); version++ {
		if err := steps[version](tx); err != nil {
			return fmt.Errorf("bring it from schema %d to %d: %w", version, version+1, err)
		}
	}
	return tx.Bucket(metaBucket).Put(schemaKey, []byte(strconv.Itoa(version)))
}
