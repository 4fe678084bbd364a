// Copyright: the lumen.airgap maintainers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"sync"
	"time"
	"unsafe"

	log "github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/argoproj/argo-rollouts/analysis"
	"github.com/argoproj/argo-rollouts/metric"
	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	analysisutil "github.com/argoproj/argo-rollouts/utils/analysis"
	"github.com/argoproj/argo-rollouts/utils/evaluate"
	metricutil "github.com/argoproj/argo-rollouts/utils/metric"
	"github.com/argoproj/argo-rollouts/utils/record"
	timeutil "github.com/argoproj/argo-rollouts/utils/time"
)

// A run that has taken so many measurements without an end is Running.
const maxMeasurements = 500

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type result struct {
	Value any     `json:"value"`
	Error *string `json:"error"`
}

type verdictCase struct {
	ID      string              `json:"id"`
	Metrics []v1alpha1.Metric   `json:"metrics"`
	DryRun  []string            `json:"dryRun"`
	Results map[string][]result `json:"results"`
}

type measurement struct {
	Phase string  `json:"phase"`
	At    float64 `json:"at"`
}

type metricAnswer struct {
	Phase              string        `json:"phase"`
	Count              int32         `json:"count"`
	Successful         int32         `json:"successful"`
	Failed             int32         `json:"failed"`
	Inconclusive       int32         `json:"inconclusive"`
	Error              int32         `json:"error"`
	ConsecutiveError   int32         `json:"consecutiveError"`
	ConsecutiveSuccess int32         `json:"consecutiveSuccess"`
	Measurements       []measurement `json:"measurements"`
}

type verdictAnswer struct {
	ID         string                  `json:"id"`
	Phase      string                  `json:"phase"`
	Message    string                  `json:"message"`
	Metrics    map[string]metricAnswer `json:"metrics"`
	FinishedAt *float64                `json:"finishedAt"`
}

// verdict lets Argo's controller reconcile an AnalysisRun of the case until it ends, on a virtual clock.
func verdict(c verdictCase) verdictAnswer {
	script := &script{results: c.Results, taken: map[string][]measurement{}}
	// A few milliseconds behind the second, as in life: what Argo stores are whole seconds.
	timeutil.SetNowTimeFunc(func() time.Time {
		return epoch.Add(time.Duration(script.now*float64(time.Second)) + 5*time.Millisecond)
	})
	var wait *time.Duration
	controller := newController(script, func(_ any, after time.Duration) { wait = &after })
	run := c.run()
	for {
		wait = nil
		before := run.Status
		run = reconcile(controller, run)
		run.Status = asStored(run.Status)
		if run.Status.Phase.Completed() || (script.total >= maxMeasurements && !analysisutil.IsTerminating(run)) {
			return answer(c.ID, run, script)
		}
		// A change of the status makes the controller look again at once; without one it looks when it said it would.
		if reflect.DeepEqual(before, run.Status) {
			if wait == nil {
				panic("neither a change nor a time to look again: " + c.ID)
			}
			script.now = math.Round(script.now + wait.Seconds())
		}
	}
}

func (c verdictCase) run() *v1alpha1.AnalysisRun {
	run := &v1alpha1.AnalysisRun{}
	for _, m := range c.Metrics {
		m.Provider = v1alpha1.MetricProvider{Job: &v1alpha1.JobMetric{}} // Argo wants one; the script stands in for it
		run.Spec.Metrics = append(run.Spec.Metrics, m)
	}
	for _, pattern := range c.DryRun {
		run.Spec.DryRun = append(run.Spec.DryRun, v1alpha1.DryRun{MetricName: pattern})
	}
	return run
}

// The controller's own step, which its package keeps to itself.
//
//go:linkname reconcile github.com/argoproj/argo-rollouts/analysis.(*Controller).reconcileAnalysisRun
func reconcile(c *analysis.Controller, run *v1alpha1.AnalysisRun) *v1alpha1.AnalysisRun

func newController(provider metric.Provider, enqueueAfter func(any, time.Duration)) *analysis.Controller {
	log.SetLevel(log.PanicLevel)
	controller := &analysis.Controller{}
	// Its fields are private, and its constructor wants a cluster.
	set := func(field string, value any) {
		f := reflect.ValueOf(controller).Elem().FieldByName(field)
		reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem().Set(reflect.ValueOf(value))
	}
	set("recorder", silence{})
	set("newProvider", func(log.Entry, string, v1alpha1.Metric) (metric.Provider, error) { return provider, nil })
	set("enqueueAnalysisAfter", enqueueAfter)
	return controller
}

// silence is a recorder of events that keeps none.
type silence struct{ record.EventRecorder }

func (silence) Eventf(runtime.Object, record.EventOptions, string, ...any) {}

// asStored is the status as the API server gives it back.
func asStored(status v1alpha1.AnalysisRunStatus) v1alpha1.AnalysisRunStatus {
	text, err := json.Marshal(status)
	if err != nil {
		panic(err)
	}
	var stored v1alpha1.AnalysisRunStatus
	if err := json.Unmarshal(text, &stored); err != nil {
		panic(err)
	}
	return stored
}

func answer(id string, run *v1alpha1.AnalysisRun, script *script) verdictAnswer {
	metrics := map[string]metricAnswer{}
	for _, r := range run.Status.MetricResults {
		metrics[r.Name] = metricAnswer{string(r.Phase), r.Count, r.Successful, r.Failed, r.Inconclusive, r.Error,
			r.ConsecutiveError, r.ConsecutiveSuccess, script.taken[r.Name]}
	}
	answer := verdictAnswer{ID: id, Phase: string(run.Status.Phase), Message: run.Status.Message, Metrics: metrics}
	if run.Status.CompletedAt != nil {
		at := run.Status.CompletedAt.Sub(epoch).Seconds()
		answer.FinishedAt = &at
	}
	return answer
}

// script is a provider that answers from the case. It remembers all measurements, of which Argo keeps ten a metric.
type script struct {
	mutex   sync.Mutex // the controller measures all that is due at once
	results map[string][]result
	taken   map[string][]measurement
	total   int
	now     float64
}

func (s *script) Run(_ *v1alpha1.AnalysisRun, m v1alpha1.Metric) v1alpha1.Measurement {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	now := timeutil.MetaNow()
	taken := v1alpha1.Measurement{StartedAt: &now, FinishedAt: &now}
	var err error
	if taken.Phase, err = s.judge(m); err != nil {
		taken = metricutil.MarkMeasurementError(taken, err)
	}
	s.taken[m.Name] = append(s.taken[m.Name], measurement{string(taken.Phase), s.now})
	s.total++
	return taken
}

// judge is the verdict of Argo's conditions on the next scripted result; the last one repeats.
func (s *script) judge(m v1alpha1.Metric) (v1alpha1.AnalysisPhase, error) {
	scripted := s.results[m.Name]
	if len(scripted) == 0 {
		return "", errors.New("no result is scripted")
	}
	next := scripted[min(len(s.taken[m.Name]), len(scripted)-1)]
	if next.Error != nil {
		return "", errors.New(*next.Error)
	}
	return evaluate.EvaluateResult(floats(next.Value), m, *log.NewEntry(log.StandardLogger()))
}

// floats is a value as Argo's Prometheus provider hands it to the conditions: a float64 or a list of them.
func floats(value any) any {
	switch v := value.(type) {
	case []any:
		list := make([]float64, 0, len(v))
		for _, item := range v {
			list = append(list, floats(item).(float64))
		}
		return list
	case string: // NaN, +Inf, -Inf
		number, err := strconv.ParseFloat(v, 64)
		if err != nil {
			panic(err)
		}
		return number
	}
	return value
}

func (*script) Resume(_ *v1alpha1.AnalysisRun, _ v1alpha1.Metric, m v1alpha1.Measurement) v1alpha1.Measurement {
	return m
}

func (*script) Terminate(_ *v1alpha1.AnalysisRun, _ v1alpha1.Metric, m v1alpha1.Measurement) v1alpha1.Measurement {
	return m
}

func (*script) GarbageCollect(*v1alpha1.AnalysisRun, v1alpha1.Metric, int) error { return nil }
func (*script) GetMetadata(v1alpha1.Metric) map[string]string                    { return nil }
func (*script) Type() string                                                     { return "script" }
