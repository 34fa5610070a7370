package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/e2e/bench/shape"
)

// runContainers starts n containers of an image in one chain, each when the one before
// has registered, says "ready" on stdout when all are, and removes them, dependents
// first, on SIGINT.
func runContainers(n int, delay, image string) error {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	ctx := context.Background()
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer engine.Close()
	name := fmt.Sprintf("flowctl-bench-%d", os.Getpid())
	network, err := engine.NetworkCreate(ctx, name, client.NetworkCreateOptions{Driver: "bridge"})
	if err != nil {
		return err
	}
	defer func() { _, _ = engine.NetworkRemove(ctx, network.ID, client.NetworkRemoveOptions{}) }()
	made, err := engine.NetworkInspect(ctx, network.ID, client.NetworkInspectOptions{})
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", net.JoinHostPort(made.Network.IPAM.Config[0].Gateway.String(), "0"))
	if err != nil {
		return err
	}
	actors := connect(shape.Chain(n))
	go accept(lis, actors)
	var ids []string
	defer func() {
		for i := len(ids) - 1; i >= 0; i-- {
			err = errors.Join(err, removeContainer(ctx, engine, ids[i]))
		}
	}()
	for _, a := range actors {
		id, err := startContainer(ctx, engine, network.ID, image, []string{"contained", delay, strconv.Itoa(a.Role)},
			[]string{"COMPONENT_ID=" + a.ID, "FLOWCTL_ENDPOINT=" + lis.Addr().String()})
		if err != nil {
			return err
		}
		ids = append(ids, id)
		select {
		case <-a.ready:
		case <-interrupted:
			return nil
		case <-time.After(time.Minute):
			return fmt.Errorf("%s never registered", a.ID)
		}
	}
	fmt.Println("ready")
	<-interrupted
	return nil
}

func startContainer(ctx context.Context, engine *client.Client, network, image string, command, env []string) (string, error) {
	withInit := true
	created, err := engine.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config:     &container.Config{Image: image, Cmd: command, Env: env},
		HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(network), Init: &withInit, LogConfig: container.LogConfig{Type: "none"}},
	})
	if err != nil {
		return "", err
	}
	_, err = engine.ContainerStart(ctx, created.ID, client.ContainerStartOptions{})
	return created.ID, err
}

func removeContainer(ctx context.Context, engine *client.Client, id string) error {
	ended := engine.ContainerWait(ctx, id, client.ContainerWaitOptions{})
	if _, err := engine.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "SIGTERM"}); err != nil {
		return err
	}
	select {
	case <-ended.Result:
	case err := <-ended.Error:
		return err
	}
	_, err := engine.ContainerRemove(ctx, id, client.ContainerRemoveOptions{})
	return err
}
