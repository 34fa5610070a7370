package docker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// Preflight returns everything that would keep specs from starting, one sentence
// each: an engine that does not answer, images that are not there and cannot be
// pulled, folders that do not exist. Images that are missing, or always to be
// pulled, are pulled, all at once.
func (d *Driver) Preflight(ctx context.Context, specs []driver.Spec) []string {
	if _, err := d.client.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return []string{d.failed("look for the components' images", err).Error()}
	}
	users := make(map[string][]string)
	policies := make(map[string]driver.PullPolicy)
	var problems []string
	for _, spec := range specs {
		c := spec.Container
		if c == nil || c.Image == "" {
			problems = append(problems, fmt.Sprintf("%s: %v", spec.Component, errNoImage))
			continue
		}
		users[c.Image] = append(users[c.Image], spec.Component)
		if policies[c.Image] != driver.PullAlways { // one who wants it is enough
			policies[c.Image] = c.Pull
		}
		problems = append(problems, d.checkVolumes(spec)...)
	}
	images := slices.Sorted(maps.Keys(users))
	errs := make([]error, len(images))
	var all sync.WaitGroup
	for i, image := range images {
		all.Go(func() { errs[i] = d.obtain(ctx, image, policies[image]) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", strings.Join(users[images[i]], ", "), err))
		}
	}
	return problems
}

// errNoImage is what is wrong with a component that can only be a process.
var errNoImage = errors.New("it has no image, and a container needs one")

// checkVolumes checks the folders that a container is to see, if they are on this machine.
func (d *Driver) checkVolumes(spec driver.Spec) []string {
	var problems []string
	for _, v := range spec.Container.Volumes {
		if !d.network.Gateway.IsValid() || !filepath.IsAbs(v.Source) {
			continue
		}
		if _, err := os.Stat(v.Source); errors.Is(err, os.ErrNotExist) {
			problems = append(problems, fmt.Sprintf("%s: its volume %s does not exist on this machine", spec.Component, v.Source))
		}
	}
	return problems
}

// obtain sees to it that the engine has an image.
func (d *Driver) obtain(ctx context.Context, image string, policy driver.PullPolicy) error {
	if policy == driver.PullAlways {
		return d.pull(ctx, image)
	}
	_, err := d.client.ImageInspect(ctx, image)
	if !cerrdefs.IsNotFound(err) {
		return d.failed("look for image "+image, err)
	}
	if policy == driver.PullNever {
		return fmt.Errorf("image %s is not on %s, and `pull_policy: never` says that it is not to be pulled; %s", image, d.name, howToGet)
	}
	return d.pull(ctx, image)
}

// howToGet is what to do about a missing image.
const howToGet = "check its name, log in to its registry (docker login), or build it (scripts/build-docker-images.sh builds those of the token-transfer pipeline)"

// hasPulled reports whether this driver has pulled an image: a run sees one version of it.
func (d *Driver) hasPulled(image string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pulled[image]
}

// pull pulls an image. The end of ctx interrupts it.
func (d *Driver) pull(ctx context.Context, image string) error {
	begin := time.Now()
	login, loginErr := d.login(ctx, image) // often it is not needed
	d.notice("image %s: pulling", image)
	err := d.download(ctx, image, login)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case lost(err):
		return d.failed("pull image "+image, err)
	case err != nil:
		return fmt.Errorf("image %s cannot be pulled: %w; %s", image, errors.Join(answer{err}, loginErr), howToGet)
	}
	d.mu.Lock()
	d.pulled[image] = true
	d.mu.Unlock()
	d.notice("image %s: pulled in %s", image, time.Since(begin).Round(100*time.Millisecond))
	return nil
}

// download pulls and tells how far it is, once a second at most.
func (d *Driver) download(ctx context.Context, image, login string) error {
	pull, err := d.client.ImagePull(ctx, image, client.ImagePullOptions{RegistryAuth: login})
	if err != nil {
		return err
	}
	layers, told := make(map[string]layer), time.Now()
	for message, err := range pull.JSONMessages(ctx) {
		switch {
		case err != nil:
			return err
		case message.Error != nil:
			return message.Error
		case message.Status == "Downloading" && message.Progress != nil:
			layers[message.ID] = layer{message.Progress.Current, message.Progress.Total}
		}
		if len(layers) > 0 && time.Since(told) > time.Second {
			told = time.Now()
			d.notice("image %s: %s", image, sum(layers))
		}
	}
	return nil
}

// layer is how far the download of a layer is, in bytes; registries may not tell its
// size.
type layer struct{ done, size int64 }

// sum says how far the layers are that have been begun.
func sum(layers map[string]layer) string {
	var all layer
	for _, l := range layers {
		all.done += l.done
		all.size += l.size
	}
	if all.size < all.done {
		return fmt.Sprintf("%.1f MB", float64(all.done)/1e6)
	}
	return fmt.Sprintf("%.1f of %.1f MB", float64(all.done)/1e6, float64(all.size)/1e6)
}
