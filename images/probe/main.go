// Probe answers HTTP and asks for it: the pods that prove what a network lets through.
//
//	probe serve ADDRESS          answer "hello from HOSTNAME" until stopped
//	probe get URL [TIMEOUT]      exit 0 and print the answer, or exit 1 and say why (default 2s)
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) >= 2 && args[0] == "get":
		timeout := 2 * time.Second
		if len(args) == 3 {
			var err error
			if timeout, err = time.ParseDuration(args[2]); err != nil {
				return err
			}
		}
		return get(args[1], timeout)
	}
	return fmt.Errorf("usage: probe serve ADDRESS | probe get URL [TIMEOUT]")
}

func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	server := http.Server{Addr: address, ReadHeaderTimeout: 5 * time.Second}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from %s\n", name)
	})
	return server.ListenAndServe()
}

func get(url string, timeout time.Duration) error {
	client := http.Client{Timeout: timeout}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}
