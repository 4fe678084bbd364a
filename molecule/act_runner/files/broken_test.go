package main

import "testing"

func TestThatFails(t *testing.T) { t.Fatal("as this scenario wants it") }
