// Copyright: the lumen.airgap maintainers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	replicasetutil "github.com/argoproj/argo-rollouts/utils/replicaset"
)

type scale struct {
	Spec      int32 `json:"spec"`
	Available int32 `json:"available"`
}

type replicasCase struct {
	ID             string              `json:"id"`
	Replicas       int32               `json:"replicas"`
	Weight         int32               `json:"weight"`
	MaxSurge       *intstr.IntOrString `json:"maxSurge"`
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable"`
	Stable         *scale              `json:"stable"`
	Canary         *scale              `json:"canary"`
	Older          *[]scale            `json:"older"`
}

type replicasAnswer struct {
	ID     string `json:"id"`
	Canary int32  `json:"canary"`
	Stable int32  `json:"stable"`
}

// replicas is one step from the ReplicaSets of the case or, when it has none, the counts where nothing changes more.
func replicas(c replicasCase) replicasAnswer {
	rollout := c.rollout()
	canary, stable := scale{}, scale{c.Replicas, c.Replicas}
	if c.Canary != nil {
		canary = *c.Canary
	}
	if c.Stable != nil {
		stable = *c.Stable
	}
	var older []*appsv1.ReplicaSet
	if c.Older != nil {
		for i, s := range *c.Older {
			older = append(older, replicaSet(fmt.Sprintf("older%d", i), s))
		}
	}
	settle := c.Stable == nil && c.Canary == nil && c.Older == nil
	for {
		newCanary, newStable := replicasetutil.CalculateReplicaCountsForBasicCanary(
			rollout, replicaSet("canary", canary), replicaSet("stable", stable), older)
		if !settle || (newCanary == canary.Spec && newStable == stable.Spec) {
			return replicasAnswer{c.ID, newCanary, newStable}
		}
		canary, stable = scale{newCanary, newCanary}, scale{newStable, newStable}
	}
}

// rollout is one that stands at a setWeight of the case.
func (c replicasCase) rollout() *v1alpha1.Rollout {
	step := int32(0)
	return &v1alpha1.Rollout{
		Spec: v1alpha1.RolloutSpec{
			Replicas: &c.Replicas,
			Strategy: v1alpha1.RolloutStrategy{Canary: &v1alpha1.CanaryStrategy{
				MaxSurge:       c.MaxSurge,
				MaxUnavailable: c.MaxUnavailable,
				Steps:          []v1alpha1.CanaryStep{{SetWeight: &c.Weight}},
			}},
		},
		Status: v1alpha1.RolloutStatus{StableRS: "stable", CurrentPodHash: "canary", CurrentStepIndex: &step},
	}
}

func replicaSet(name string, s scale) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.ReplicaSetSpec{Replicas: &s.Spec},
		Status:     appsv1.ReplicaSetStatus{Replicas: s.Spec, AvailableReplicas: s.Available},
	}
}
