// Copyright: the lumen.airgap maintainers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/argoproj/argo-rollouts/pkg/kubectl-argo-rollouts/cmd/get"
	"github.com/argoproj/argo-rollouts/pkg/kubectl-argo-rollouts/info"
	"github.com/argoproj/argo-rollouts/pkg/kubectl-argo-rollouts/options"
	timeutil "github.com/argoproj/argo-rollouts/utils/time"
)

type treeCase struct {
	ID           string                  `json:"id"`
	Now          time.Time               `json:"now"`
	Rollout      *v1alpha1.Rollout       `json:"rollout"`
	ReplicaSets  []*appsv1.ReplicaSet    `json:"replicaSets"`
	Pods         []*corev1.Pod           `json:"pods"`
	Experiments  []*v1alpha1.Experiment  `json:"experiments"`
	AnalysisRuns []*v1alpha1.AnalysisRun `json:"analysisRuns"`
}

type treeAnswer struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

// tree is what `kubectl argo rollouts get rollout --no-color` prints.
func tree(c treeCase) treeAnswer {
	timeutil.SetNowTimeFunc(func() time.Time { return c.Now })
	var out bytes.Buffer
	print := get.GetOptions{NoColor: true}
	print.ArgoRolloutsOptions = options.ArgoRolloutsOptions{IOStreams: genericclioptions.IOStreams{Out: &out}}
	print.PrintRollout(info.NewRolloutInfo(c.Rollout, c.ReplicaSets, c.Pods, c.Experiments, c.AnalysisRuns, nil))
	return treeAnswer{c.ID, out.String()}
}
