package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
)

// parts is the resolution of an error rate. Counting in whole millionths keeps the spreading exact:
// adding 0.1 ten times as a float does not make 1.
const parts = 1_000_000

// parseRate reads an error rate: one number from 0 (never) to 1 (always).
func parseRate(text string) (float64, error) {
	text = strings.TrimSpace(text)
	rate, err := strconv.ParseFloat(text, 64)
	// Written so that NaN, which compares false with everything, is refused too.
	if err != nil || !(rate >= 0 && rate <= 1) {
		return 0, fmt.Errorf("%q is not a number from 0 to 1", text)
	}
	return rate, nil
}

// spreader decides which answers fail. It adds the rate up instead of drawing lots, so that a rate of
// 0.5 is every second answer and a short measurement sees the rate that was asked for.
type spreader struct {
	mu   sync.Mutex
	rate int64
	sum  int64
}

func newSpreader(rate float64) *spreader {
	return &spreader{rate: int64(math.Round(rate * parts))}
}

func (s *spreader) fails() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum += s.rate
	if s.sum < parts {
		return false
	}
	s.sum -= parts
	return true
}
