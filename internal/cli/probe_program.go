package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// copyProgram puts a copy of this program, called flowctl, into a folder. Containers
// that see the folder can ask their health with it. Whoever runs an older copy at
// that moment goes on with it.
func (a *app) copyProgram(folder string) error {
	if a.Program == "" {
		return fmt.Errorf("copy this program to %s: its own path is not known", folder)
	}
	source, err := os.Open(a.Program)
	if err != nil {
		return fmt.Errorf("copy this program to %s: %w", folder, err)
	}
	defer source.Close()
	err = replaceFile(filepath.Join(folder, "flowctl"), 0o755, func(w io.Writer) error {
		_, err := io.Copy(w, source)
		return err
	})
	if err != nil {
		return fmt.Errorf("copy this program to %s: %w", folder, err)
	}
	return nil
}

// replaceFile writes a file beside path and puts it in its place when it is
// complete: nobody sees half of it, and on an error nothing has changed.
func replaceFile(path string, mode os.FileMode, write func(io.Writer) error) error {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // gone already when all went well
	err = write(temp)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
