// Copyright: the lumen.airgap maintainers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"sort"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	analysisutil "github.com/argoproj/argo-rollouts/utils/analysis"
)

type templatesCase struct {
	ID               string                          `json:"id"`
	Templates        []v1alpha1.AnalysisTemplateSpec `json:"templates"`
	ClusterTemplates []v1alpha1.AnalysisTemplateSpec `json:"clusterTemplates"`
	Args             []v1alpha1.AnalysisRunArgument  `json:"args"`
	DryRun           []v1alpha1.DryRun               `json:"dryRun"`
	Retention        []v1alpha1.MeasurementRetention `json:"measurementRetention"`
	Rollout          v1alpha1.Rollout                `json:"rollout"`
	Stable           string                          `json:"stable"`
	Latest           string                          `json:"latest"`
}

type resolvedMetric struct {
	Name             string `json:"name"`
	SuccessCondition string `json:"successCondition"`
	FailureCondition string `json:"failureCondition"`
	Count            int    `json:"count"`
	FailureLimit     int    `json:"failureLimit"`
}

type templatesAnswer struct {
	ID      string           `json:"id"`
	Message string           `json:"message"`
	Refused bool             `json:"refused"`
	Metrics []resolvedMetric `json:"metrics"`
	DryRun  []string         `json:"dryRun"`
}

// templates makes an AnalysisRun of a Rollout's templates and arguments, as Argo's controllers do.
func templates(c templatesCase) templatesAnswer {
	answer := templatesAnswer{ID: c.ID, Metrics: []resolvedMetric{}, DryRun: []string{}}
	metrics, dryRun, err := c.resolve()
	if err != nil {
		answer.Refused, answer.Message = true, err.Error()
		return answer
	}
	for _, m := range metrics {
		resolved := resolvedMetric{m.Name, m.SuccessCondition, m.FailureCondition, 0, 0}
		if m.Count != nil {
			resolved.Count = m.Count.IntValue()
		}
		if m.FailureLimit != nil {
			resolved.FailureLimit = m.FailureLimit.IntValue()
		}
		answer.Metrics = append(answer.Metrics, resolved)
	}
	for name := range dryRun {
		answer.DryRun = append(answer.DryRun, name)
	}
	sort.Strings(answer.DryRun)
	return answer
}

func (c templatesCase) resolve() ([]v1alpha1.Metric, map[string]bool, error) {
	args, err := analysisutil.BuildArgumentsForRolloutAnalysisRun(
		c.Args, labelled(c.Stable), labelled(c.Latest), &c.Rollout)
	if err != nil {
		return nil, nil, err
	}
	var own []*v1alpha1.AnalysisTemplate
	for i, spec := range c.Templates {
		own = append(own, &v1alpha1.AnalysisTemplate{ObjectMeta: named("t", i), Spec: spec})
	}
	var cluster []*v1alpha1.ClusterAnalysisTemplate
	for i, spec := range c.ClusterTemplates {
		cluster = append(cluster, &v1alpha1.ClusterAnalysisTemplate{ObjectMeta: named("c", i), Spec: spec})
	}
	run, err := analysisutil.NewAnalysisRunFromTemplates(
		own, cluster, args, c.DryRun, c.Retention, nil, nil, "run", "", "default")
	if err != nil {
		return nil, nil, err
	}
	var metrics []v1alpha1.Metric
	for _, m := range run.Spec.Metrics {
		m.Provider = v1alpha1.MetricProvider{Job: &v1alpha1.JobMetric{}}
		resolved, err := analysisutil.ResolveMetricArgs(m, run.Spec.Args)
		if err != nil {
			return nil, nil, err
		}
		metrics = append(metrics, *resolved)
	}
	if err := analysisutil.ValidateMetrics(metrics); err != nil {
		return nil, nil, err
	}
	dryRun, err := analysisutil.GetDryRunMetrics(run.Spec.DryRun, metrics)
	if err != nil {
		return nil, nil, err
	}
	_, err = analysisutil.GetMeasurementRetentionMetrics(run.Spec.MeasurementRetention, metrics)
	return metrics, dryRun, err
}

func labelled(hash string) *appsv1.ReplicaSet {
	labels := map[string]string{v1alpha1.DefaultRolloutUniqueLabelKey: hash}
	return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Labels: labels}}
}

func named(kind string, number int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: fmt.Sprintf("%s%d", kind, number)}
}
