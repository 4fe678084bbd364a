package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func get(t *testing.T, handler http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder
}

func decode(t *testing.T, recorder *httptest.ResponseRecorder) answer {
	t.Helper()
	var got answer
	if err := json.Unmarshal(recorder.Body.Bytes(), &got); err != nil {
		t.Fatalf("body %q: %v", recorder.Body, err)
	}
	return got
}

// The committed rate has to be a rate. It may be any: a bad release passes its unit tests, and the
// canary is what finds it.
func TestCommittedErrorRateIsARate(t *testing.T) {
	if _, err := parseRate(errorRateFile); err != nil {
		t.Fatal(err)
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]float64{"0": 0, "0.5\n": 0.5, " 1 ": 1, "1e-2": 0.01} {
		got, err := parseRate(text)
		if err != nil || got != want {
			t.Errorf("parseRate(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "half", "-0.1", "1.1", "NaN", "Inf", "0.5 0.5"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("parseRate(%q) = %v; want an error", text, got)
		}
	}
}

func TestErrorsAreSpreadEvenly(t *testing.T) {
	for _, rate := range []float64{0, 0.1, 0.25, 0.5, 0.9, 1} {
		errors := newSpreader(rate)
		failed := 0
		for n := 1; n <= 1000; n++ {
			if errors.fails() {
				failed++
			}
			if due := rate * float64(n); float64(failed) > due+1e-6 || float64(failed) < due-1-1e-6 {
				t.Fatalf("rate %v: %d failures after %d answers", rate, failed, n)
			}
		}
	}
}

func TestRootAnswersWithItsVersion(t *testing.T) {
	recorder := get(t, newService("v1.2.3", "abc", 0), "/")
	want := answer{App: "lumen-api", Version: "v1.2.3", Status: "ok"}
	if got := decode(t, recorder); recorder.Code != http.StatusOK || got != want {
		t.Fatalf("%d %+v; want 200 %+v", recorder.Code, got, want)
	}
}

func TestRootFailsAtTheErrorRate(t *testing.T) {
	handler := newService("v1.2.3", "abc", 0.5)
	codes := []int{}
	for range [4]int{} {
		codes = append(codes, get(t, handler, "/").Code)
	}
	if got, want := fmt.Sprint(codes), "[200 500 200 500]"; got != want {
		t.Fatalf("codes %s; want %s", got, want)
	}
}

func TestHealthNeverFails(t *testing.T) {
	handler := newService("v1.2.3", "abc", 1)
	for range [3]int{} {
		recorder := get(t, handler, "/health")
		if got := decode(t, recorder); recorder.Code != http.StatusOK || got.Version != "v1.2.3" {
			t.Fatalf("%d %+v", recorder.Code, got)
		}
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	handler := newService("dev", "", 0)
	if code := get(t, handler, "/nowhere").Code; code != http.StatusNotFound {
		t.Errorf("unknown path: %d", code)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/", nil))
	if recorder.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %d", recorder.Code)
	}
}

func TestMetricsStartAtZero(t *testing.T) {
	recorder := get(t, newService("dev", "6d5f", 0), "/metrics")
	want := `# HELP http_requests_total Answers to GET /, by status.
# TYPE http_requests_total counter
http_requests_total{app="lumen-api",status="200",pod_template_hash="6d5f"} 0
http_requests_total{app="lumen-api",status="500",pod_template_hash="6d5f"} 0
`
	if got := recorder.Body.String(); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	if kind := recorder.Header().Get("Content-Type"); !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		t.Errorf("Content-Type %q", kind)
	}
}

func TestMetricsCountUsersOnly(t *testing.T) {
	handler := newService("dev", "6d5f", 0.5)
	var users sync.WaitGroup
	for range [10]int{} {
		users.Add(1)
		go func() {
			defer users.Done()
			get(t, handler, "/")
		}()
	}
	users.Wait()
	get(t, handler, "/health")
	got := get(t, handler, "/metrics").Body.String()
	for _, line := range []string{
		`http_requests_total{app="lumen-api",status="200",pod_template_hash="6d5f"} 5`,
		`http_requests_total{app="lumen-api",status="500",pod_template_hash="6d5f"} 5`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no line %s in\n%s", line, got)
		}
	}
}

func TestLabelValuesAreEscaped(t *testing.T) {
	if got, want := quote("a\"b\\c\n"), `"a\"b\\c\n"`; got != want {
		t.Fatalf("%s; want %s", got, want)
	}
}

func TestPodTemplateHashOfEitherController(t *testing.T) {
	for _, c := range []struct{ rollout, deployment, want string }{
		{"r1", "", "r1"}, {"", "d1", "d1"}, {"", "", ""},
	} {
		environment := map[string]string{"ROLLOUTS_POD_TEMPLATE_HASH": c.rollout, "POD_TEMPLATE_HASH": c.deployment}
		if got := podTemplateHash(func(name string) string { return environment[name] }); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestServeFinishesRequestsInFlight(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	entered, release := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		fmt.Fprint(w, "done")
	})
	ctx, stop := context.WithCancel(context.Background())
	served, answered := make(chan error, 1), make(chan error, 1)
	go func() { served <- serve(ctx, address, slow) }()
	go func() { answered <- request(address) }()
	<-entered
	stop()
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("request in flight: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

// request calls the server, again until it listens.
func request(address string) error {
	var last error
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		response, err := http.Get("http://" + address + "/")
		if err == nil {
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("status %d", response.StatusCode)
			}
			return nil
		}
		last = err
	}
	return last
}
