// Copyright: the lumen.airgap maintainers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Cyclonus answers cases of tests/parity/reachability.py with cyclonus' matcher: one JSON line in, one out.
// `cyclonus matrix PORT` reads one case and says how many flows between its pods are allowed, and what that took.
//
// What the matcher leaves to its caller is done here: the defaults of the API server, a pod reaching itself, the
// names of a port. Every pod must have an address. A case it cannot read is a panic: the generator makes none.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

type flow struct {
	From     string      `json:"from"`
	To       string      `json:"to"`
	Port     int         `json:"port"`
	Protocol v1.Protocol `json:"protocol"`
}

type reachabilityCase struct {
	ID        string            `json:"id"`
	Resources []json.RawMessage `json:"resources"`
	Flows     []flow            `json:"flows"`
}

type answer struct {
	ID       string   `json:"id"`
	Verdicts []string `json:"verdicts"`
}

type end struct {
	peer *matcher.TrafficPeer
	pod  *v1.Pod
}

type world struct {
	policy *matcher.Policy
	names  []string
	pods   map[string]end
	byIP   map[string]string
}

func main() {
	if args := os.Args[1:]; len(args) == 2 && args[0] == "matrix" {
		port, err := strconv.Atoi(args[1])
		must(err)
		eachCase(func(c reachabilityCase) any { return matrix(c, port) })
	} else if len(args) == 0 {
		eachCase(func(c reachabilityCase) any { return answer{c.ID, verdicts(c)} })
	} else {
		fmt.Fprintln(os.Stderr, "usage: cyclonus [matrix PORT] < cases > answers")
		os.Exit(2)
	}
}

func eachCase(answer func(reachabilityCase) any) {
	lines := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	decoder := json.NewDecoder(lines)
	for decoder.More() {
		var c reachabilityCase
		must(decoder.Decode(&c))
		must(json.NewEncoder(out).Encode(answer(c)))
	}
}

func verdicts(c reachabilityCase) []string {
	w := read(c.Resources)
	found := []string{}
	for _, f := range c.Flows {
		if f.Protocol == "" {
			f.Protocol = v1.ProtocolTCP
		}
		if w.allows(w.end(f.From), w.end(f.To), f.Port, f.Protocol) {
			found = append(found, "allow")
		} else {
			found = append(found, "deny")
		}
	}
	return found
}

// matrix decides all flows between the pods on one TCP port.
func matrix(c reachabilityCase, port int) any {
	started := time.Now()
	w := read(c.Resources)
	allowed := 0
	for _, from := range w.names {
		for _, to := range w.names {
			if w.allows(w.pods[from], w.pods[to], port, v1.ProtocolTCP) {
				allowed++
			}
		}
	}
	return map[string]any{
		"allowed": allowed, "flows": len(w.names) * len(w.names), "seconds": time.Since(started).Seconds(), "peak": peak(),
	}
}

// allows asks each direction once for every name that the target's containers give the port.
func (w world) allows(from, to end, port int, protocol v1.Protocol) bool {
	if from.pod != nil && from.pod == to.pod {
		return true
	}
	names := names(to.pod, port, protocol)
	for _, ingress := range []bool{false, true} {
		allowed := false
		for _, name := range names {
			traffic := matcher.Traffic{
				Source: from.peer, Destination: to.peer, ResolvedPort: port, ResolvedPortName: name, Protocol: protocol,
			}
			allowed = allowed || w.policy.IsIngressOrEgressAllowed(&traffic, ingress).IsAllowed()
		}
		if !allowed {
			return false
		}
	}
	return true
}

// names are what the target's containers call a port; one that is empty when they do not.
func names(pod *v1.Pod, port int, protocol v1.Protocol) []string {
	var found []string
	if pod != nil {
		for _, container := range pod.Spec.Containers {
			for _, p := range container.Ports {
				same := p.Protocol == protocol || p.Protocol == "" && protocol == v1.ProtocolTCP
				if same && p.Name != "" && int(p.ContainerPort) == port {
					found = append(found, p.Name)
				}
			}
		}
	}
	if found == nil {
		return []string{""}
	}
	return found
}

func (w world) end(name string) end {
	if pod, ok := w.byIP[name]; ok {
		name = pod
	}
	if !strings.Contains(name, "/") {
		return end{peer: &matcher.TrafficPeer{IP: name}}
	}
	found, ok := w.pods[name]
	if !ok {
		panic("no pod " + name)
	}
	return found
}

func read(resources []json.RawMessage) world {
	w := world{pods: map[string]end{}, byIP: map[string]string{}}
	namespaces := map[string]map[string]string{}
	var pods []*v1.Pod
	var policies []*networkingv1.NetworkPolicy
	for _, raw := range resources {
		var kind struct{ Kind string }
		must(json.Unmarshal(raw, &kind))
		switch kind.Kind {
		case "Namespace":
			var namespace v1.Namespace
			must(json.Unmarshal(raw, &namespace))
			namespaces[namespace.Name] = namespace.Labels
		case "Pod":
			pod := &v1.Pod{}
			must(json.Unmarshal(raw, pod))
			pods = append(pods, pod)
		case "NetworkPolicy":
			policy := &networkingv1.NetworkPolicy{}
			must(json.Unmarshal(raw, policy))
			policies = append(policies, withTypes(policy))
		}
	}
	for _, pod := range pods {
		if pod.Namespace == "" {
			pod.Namespace = v1.NamespaceDefault
		}
		name := pod.Namespace + "/" + pod.Name
		w.names = append(w.names, name)
		w.byIP[pod.Status.PodIP] = name
		w.pods[name] = end{&matcher.TrafficPeer{IP: pod.Status.PodIP, Internal: &matcher.InternalPeer{
			PodLabels: pod.Labels, NamespaceLabels: withName(namespaces[pod.Namespace], pod.Namespace),
			Namespace: pod.Namespace,
		}}, pod}
	}
	w.policy = matcher.BuildNetworkPolicies(true, policies)
	return w
}

func withTypes(policy *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	if len(policy.Spec.PolicyTypes) == 0 {
		policy.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(policy.Spec.Egress) > 0 {
			policy.Spec.PolicyTypes = append(policy.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
	return policy
}

func withName(labels map[string]string, name string) map[string]string {
	found := map[string]string{v1.LabelMetadataName: name}
	for key, value := range labels {
		found[key] = value
	}
	return found
}

// peak is the most memory that this process has held, in kB.
func peak() int {
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	for _, line := range strings.Split(string(status), "\n") {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "VmHWM:" {
			kilobytes, err := strconv.Atoi(words[1])
			must(err)
			return kilobytes
		}
	}
	return 0
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
