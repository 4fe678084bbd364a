module lumen.example/lumen-api

// The standard library only: inside the airgap there is no module proxy, so the service is written to
// need none, and `go test` and `go build` work in a container without any network.
go 1.22
