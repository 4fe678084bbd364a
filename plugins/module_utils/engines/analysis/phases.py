# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phases of measurements, metrics and runs (pkg/apis/rollouts/v1alpha1/analysis_types.go of Argo Rollouts 1.8)."""

from __future__ import annotations

SUCCESSFUL = "Successful"
FAILED = "Failed"
ERROR = "Error"
INCONCLUSIVE = "Inconclusive"
RUNNING = "Running"

#: What a finished measurement is shown by.
MARKS = {SUCCESSFUL: "✔", FAILED: "✖", INCONCLUSIVE: "?", ERROR: "⚠"}
