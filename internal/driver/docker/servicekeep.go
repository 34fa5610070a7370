package docker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// Image is an image that is on the engine.
type Image struct {
	// ID is of its content.
	ID string
	// Volumes are the folders it wants to keep data in.
	Volumes []string
}

// Image looks at an image; found is false when the engine has none of that name.
func (e *Engine) Image(ctx context.Context, name string) (image Image, found bool, err error) {
	inspected, err := e.client.ImageInspect(ctx, name)
	if cerrdefs.IsNotFound(err) {
		return Image{}, false, nil
	}
	if err != nil {
		return Image{}, false, e.failed("look for image "+name, err)
	}
	image.ID = inspected.ID
	if inspected.Config != nil {
		image.Volumes = slices.Sorted(maps.Keys(inspected.Config.Volumes))
	}
	return image, true, nil
}

// Pull pulls an image, whether it is there or not, and tells notice how it is going.
func (e *Engine) Pull(ctx context.Context, image string, notice func(string)) error {
	return New(Options{Engine: e, Notice: notice}).pull(ctx, image)
}

// ServiceNetwork returns the id of the network of that name which carries label, and
// makes it, with the labels, if there is none. Of several who make it at once one does,
// and all get the same.
func (e *Engine) ServiceNetwork(ctx context.Context, name, label string, labels map[string]string) (string, error) {
	id, err := e.namedNetwork(ctx, name, label)
	if id != "" || err != nil {
		return id, err
	}
	info, err := e.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return "", e.failed("make network "+name, err)
	}
	err = e.ask(ctx, func(ctx context.Context) error {
		created, err := e.client.NetworkCreate(ctx, name, client.NetworkCreateOptions{
			Driver: "bridge", Labels: labels, Options: map[string]string{bridgeOption: bridgeName(info.Info.ID, name)},
		})
		id = created.ID
		return err
	})
	switch {
	case err == nil:
		return id, nil
	case cerrdefs.IsConflict(err), strings.Contains(err.Error(), "same bridge name"):
		return e.awaitNetwork(ctx, name, label)
	}
	return "", e.failed("make network "+name, fuller(err))
}

// bridgeOption names a network's device. Engines allow several networks of one name, and
// then start no container in any of them; two of one device they do not allow.
const bridgeOption = "com.docker.network.bridge.name"

// bridgeName is a network's device: fifteen letters at most, another one for each engine.
func bridgeName(engine, network string) string {
	sum := sha256.Sum256([]byte(engine + "/" + network))
	return "fsb-" + hex.EncodeToString(sum[:5])
}

// awaitNetwork returns the network that somebody else has begun to make.
func (e *Engine) awaitNetwork(ctx context.Context, name, label string) (id string, err error) {
	filter := make(client.Filters).Add("type", "network").Add("event", "create")
	err = e.awaitCreation(ctx, filter, "network "+name, func(ctx context.Context) (bool, error) {
		id, err = e.namedNetwork(ctx, name, label)
		return id != "", err
	})
	return id, err
}

// namedNetwork is the id of the network of that name and label; "" if there is none.
func (e *Engine) namedNetwork(ctx context.Context, name, label string) (string, error) {
	networks, err := e.networks(ctx, label)
	for _, n := range networks {
		if n.Name == name {
			return n.ID, nil
		}
	}
	return "", err
}

// networks are those that carry a label.
func (e *Engine) networks(ctx context.Context, label string) ([]network.Summary, error) {
	listed, err := e.client.NetworkList(ctx, client.NetworkListOptions{Filters: make(client.Filters).Add("label", label)})
	if err != nil {
		return nil, e.failed("list networks", err)
	}
	return slices.DeleteFunc(listed.Items, func(n network.Summary) bool { return !carries(n.Labels, label) }), nil
}

// RemoveNetworks removes the networks that carry a label, given as name=value, and
// says how many. Containers of somebody else leave them, and nothing more happens to
// them.
func (e *Engine) RemoveNetworks(ctx context.Context, label string) (int, error) {
	networks, err := e.networks(ctx, label)
	if err != nil {
		return 0, err
	}
	for i, n := range networks {
		if err := e.removeNetwork(ctx, n.ID); err != nil {
			return i, err
		}
	}
	return len(networks), nil
}

// MakeVolume makes a volume, if there is none of that name, and returns the labels that
// it has: another's, if that one was there.
func (e *Engine) MakeVolume(ctx context.Context, name string, labels map[string]string) (map[string]string, error) {
	var found map[string]string
	err := e.ask(ctx, func(ctx context.Context) error {
		made, err := e.client.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: labels})
		found = made.Volume.Labels
		return err
	})
	return found, e.failed("make volume "+name, err)
}

// Volume is a volume of the engine.
type Volume struct {
	Name   string
	Labels map[string]string
}

// Volumes are those that carry a label, in the order of their names.
func (e *Engine) Volumes(ctx context.Context, label string) ([]Volume, error) {
	listed, err := e.client.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("label", label)})
	if err != nil {
		return nil, e.failed("list volumes", err)
	}
	var found []Volume
	for _, v := range listed.Items {
		if carries(v.Labels, label) {
			found = append(found, Volume{v.Name, v.Labels})
		}
	}
	slices.SortFunc(found, func(a, b Volume) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}

// RemoveVolume removes a volume with everything in it. One that is gone is no error.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	_, err := e.client.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return e.failed("remove volume "+name, err)
}
