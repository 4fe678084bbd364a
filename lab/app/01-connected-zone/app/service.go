package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"sync"
)

const appName = "lumen-api"

// answer is the body of GET / and GET /health.
type answer struct {
	App     string `json:"app"`
	Version string `json:"version"`
	Status  string `json:"status"`
}

type service struct {
	version string
	errors  *spreader
	counter *counter
}

func newService(version, podTemplateHash string, errorRate float64) http.Handler {
	s := &service{version: version, errors: newSpreader(errorRate), counter: newCounter(podTemplateHash)}
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.root)
	mux.HandleFunc("/health", s.health)
	mux.HandleFunc("/metrics", s.metrics)
	return mux
}

// root is what users call. Only its answers are counted: were probes and scrapes counted as well, a
// version without a single user would look healthy, and a failing one less bad than it is.
func (s *service) root(w http.ResponseWriter, r *http.Request) {
	status, text := http.StatusOK, "ok"
	switch {
	case r.URL.Path != "/":
		status, text = http.StatusNotFound, "not found"
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		status, text = http.StatusMethodNotAllowed, "method not allowed"
	case s.errors.fails():
		status, text = http.StatusInternalServerError, "error"
	}
	s.counter.add(status)
	s.answer(w, status, text)
}

// health says that the process serves. The error rate does not touch it: a version that starts well
// and then fails its users is what an analysis is for, and a probe would hide it.
func (s *service) health(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, http.StatusOK, "ok")
}

func (s *service) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	fmt.Fprint(w, s.counter.text())
}

func (s *service) answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client may be gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(answer{App: appName, Version: s.version, Status: text})
}

// counter counts answers by status and writes them as http_requests_total.
type counter struct {
	mu     sync.Mutex
	hash   string
	counts map[int]uint64
}

// newCounter starts the two usual statuses at zero: a series that appears with its first error has no
// rate until the second one, and an analysis would miss the beginning.
func newCounter(podTemplateHash string) *counter {
	return &counter{hash: podTemplateHash, counts: map[int]uint64{http.StatusOK: 0, http.StatusInternalServerError: 0}}
}

func (c *counter) add(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[status]++
}

func (c *counter) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	statuses := make([]int, 0, len(c.counts))
	for status := range c.counts {
		statuses = append(statuses, status)
	}
	sort.Ints(statuses)
	var out strings.Builder
	out.WriteString("# HELP http_requests_total Answers to GET /, by status.\n# TYPE http_requests_total counter\n")
	for _, status := range statuses {
		fmt.Fprintf(&out, "http_requests_total{app=%s,status=\"%d\",pod_template_hash=%s} %d\n",
			quote(appName), status, quote(c.hash), c.counts[status])
	}
	return out.String()
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// quote writes a label value as the text format wants it.
func quote(value string) string {
	return `"` + labelEscapes.Replace(value) + `"`
}
