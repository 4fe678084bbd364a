// Copyright: the lumen.airgap maintainers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Oracle answers the cases of the parity commands with Argo Rollouts' own code: one JSON line in, one out.
// `oracle verdicts` stands beside tests/parity/verdicts.py, and so on.
// A case it cannot read, or that Argo never ends, is a panic: the generators make none.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	switch mode := append(os.Args, "")[1]; mode {
	case "verdicts":
		answerAll(verdict)
	case "replicas":
		answerAll(replicas)
	case "templates":
		answerAll(templates)
	case "trees":
		answerAll(tree)
	default:
		fmt.Fprintln(os.Stderr, "usage: oracle verdicts|replicas|templates|trees < cases > answers")
		os.Exit(2)
	}
}

func answerAll[Case, Answer any](answer func(Case) Answer) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		var c Case
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(fmt.Errorf("%w: %s", err, lines.Text()))
		}
		if err := json.NewEncoder(out).Encode(answer(c)); err != nil {
			panic(err)
		}
	}
	if err := lines.Err(); err != nil {
		panic(err)
	}
}
