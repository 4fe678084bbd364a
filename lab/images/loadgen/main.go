// Command loadgen sends steady traffic, so that an analysis in the lab has something to measure.
//
// Environment: URL (what to call), RATE (requests per second, default 20).
// Every request opens its own connection: kube-proxy picks a pod per connection, and one kept alive
// would pin all traffic to a single pod.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	defaultRate    = 20.0
	requestTimeout = 2 * time.Second
	summaryEvery   = 10 * time.Second
	// Requests open at once. More than this means that the service hangs, and piling up would hide it.
	maxOpen = 64
)

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	url := os.Getenv("URL")
	rate, err := parseRate(os.Getenv("RATE"))
	if err != nil || url == "" {
		log.Fatalf("loadgen needs URL, and RATE as a positive number of requests per second: URL=%q RATE=%q", url, os.Getenv("RATE"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client := &http.Client{Timeout: requestTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	log.Printf("%s, %v requests per second", url, rate)
	send(ctx, client, url, rate)
}

func parseRate(text string) (float64, error) {
	if text == "" {
		return defaultRate, nil
	}
	rate, err := strconv.ParseFloat(text, 64)
	if err != nil || !(rate > 0 && rate <= 10000) {
		return 0, fmt.Errorf("%q is not a rate", text)
	}
	return rate, nil
}

// send calls url until ctx ends and logs what came back.
func send(ctx context.Context, client *http.Client, url string, rate float64) {
	var results tally
	open := make(chan struct{}, maxOpen)
	next := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer next.Stop()
	summary := time.NewTicker(summaryEvery)
	defer summary.Stop()
	for {
		select {
		case <-ctx.Done():
			log.Print(results.take())
			return
		case <-summary.C:
			log.Print(results.take())
		case <-next.C:
			select {
			case open <- struct{}{}:
				go func() {
					results.add(call(client, url))
					<-open
				}()
			default:
				results.add("not sent")
			}
		}
	}
}

// call makes one request and returns its status code, or "no answer".
func call(client *http.Client, url string) string {
	response, err := client.Get(url)
	if err != nil {
		return "no answer"
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return strconv.Itoa(response.StatusCode)
}

// tally counts outcomes between two summaries. Its zero value is ready.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (t *tally) add(outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts[outcome]++
}

// take returns the counts as text and starts again from none.
func (t *tally) take() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	total, texts := 0, []string{}
	for outcome, count := range t.counts {
		total += count
		texts = append(texts, fmt.Sprintf("%s: %d", outcome, count))
	}
	t.counts = nil
	sort.Strings(texts)
	return strings.TrimSuffix(fmt.Sprintf("%d requests; %s", total, strings.Join(texts, ", ")), "; ")
}
