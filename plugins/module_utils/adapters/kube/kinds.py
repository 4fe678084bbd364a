# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of objects that the collection reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """``api_version`` and ``kind`` as they stand in an object."""

    api_version: str
    kind: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Kind:
        """The kind of an object."""
        return cls(body["apiVersion"], body["kind"])


ROLLOUT = Kind("argoproj.io/v1alpha1", "Rollout")
ANALYSIS_RUN = Kind("argoproj.io/v1alpha1", "AnalysisRun")
EXPERIMENT = Kind("argoproj.io/v1alpha1", "Experiment")
ANALYSIS_TEMPLATE = Kind("argoproj.io/v1alpha1", "AnalysisTemplate")
CLUSTER_ANALYSIS_TEMPLATE = Kind("argoproj.io/v1alpha1", "ClusterAnalysisTemplate")
REPLICA_SET = Kind("apps/v1", "ReplicaSet")
DEPLOYMENT = Kind("apps/v1", "Deployment")
POD = Kind("v1", "Pod")
EVENT = Kind("v1", "Event")
SERVICE = Kind("v1", "Service")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice")
LEASE = Kind("coordination.k8s.io/v1", "Lease")
CONFIG_MAP = Kind("v1", "ConfigMap")
SECRET = Kind("v1", "Secret")
NAMESPACE = Kind("v1", "Namespace")
NODE = Kind("v1", "Node")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount")
STATEFUL_SET = Kind("apps/v1", "StatefulSet")
DAEMON_SET = Kind("apps/v1", "DaemonSet")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy")
CUSTOM_RESOURCE_DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
APPLICATION = Kind("argoproj.io/v1alpha1", "Application")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole")
CLUSTER_ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding")
ADMISSION_POLICY = Kind("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy")
ADMISSION_POLICY_BINDING = Kind("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding")
JOB = Kind("batch/v1", "Job")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget")
HORIZONTAL_POD_AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler")
