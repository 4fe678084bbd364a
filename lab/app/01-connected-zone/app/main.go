// Command lumen-api is the small HTTP service whose releases the cluster delivers.
//
// It answers GET / and GET /health, and GET /metrics in Prometheus' text format. The file error-rate,
// which is part of the source, makes a share of the answers to GET / a 500: a bad release is a commit.
package main

import (
	"context"
	_ "embed"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	address = ":8080"
	// Kubernetes waits 30 s between SIGTERM and SIGKILL; requests in flight get a third of it.
	shutdownTimeout = 10 * time.Second
)

// version is set by the build: -ldflags "-X main.version=v1.0.0".
var version = "dev"

//go:embed error-rate
var errorRateFile string

func main() {
	log.SetFlags(0)
	rate, err := parseRate(errorRateFile)
	if err != nil {
		log.Fatalf("error-rate: %v", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	handler := newService(version, podTemplateHash(os.Getenv), rate)
	if err := serve(ctx, address, handler); err != nil {
		log.Fatal(err)
	}
}

// podTemplateHash names the ReplicaSet of this pod, whichever controller made it: a Rollout and a
// Deployment label their pods differently, and the label of the other is an empty variable.
func podTemplateHash(getenv func(string) string) string {
	if hash := getenv("ROLLOUTS_POD_TEMPLATE_HASH"); hash != "" {
		return hash
	}
	return getenv("POD_TEMPLATE_HASH")
}

// serve answers until ctx ends, then lets the requests in flight finish.
func serve(ctx context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("lumen-api %s listens on %s", version, address)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Print("lumen-api stops")
	last, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(last); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
