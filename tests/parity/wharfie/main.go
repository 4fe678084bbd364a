// The parser of k3s for registries.yaml, asked what it read.
//
// One path of a file per argument; one JSON document per line of output, in order.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/rancher/wharfie/pkg/registries"
)

func main() {
	encoder := json.NewEncoder(os.Stdout)
	for _, path := range os.Args[1:] {
		// GetPrivateRegistries takes a file that is not there for an empty one.
		if _, err := os.Stat(path); err != nil {
			fail(err)
		}
		read, err := registries.GetPrivateRegistries(path)
		if err != nil {
			fail(fmt.Errorf("%s: %w", path, err))
		}
		if err := encoder.Encode(read.Registry); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
