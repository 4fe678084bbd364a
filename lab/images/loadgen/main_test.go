package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]float64{"": defaultRate, "0.5": 0.5, "100": 100} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("parseRate(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "NaN", "Inf", "many"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("parseRate(%q) = %v; want an error", text, got)
		}
	}
}

func TestCallNamesWhatCameBack(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
	}))
	if got := call(server.Client(), server.URL); got != "500" {
		t.Errorf("%q; want 500", got)
	}
	server.Close()
	if got := call(server.Client(), server.URL); got != "no answer" {
		t.Errorf("%q; want no answer", got)
	}
}

func TestTallyStartsAgain(t *testing.T) {
	var results tally
	for _, outcome := range []string{"500", "200", "200"} {
		results.add(outcome)
	}
	if got, want := results.take(), "3 requests; 200: 2, 500: 1"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
	if got, want := results.take(), "0 requests"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
}
