#!/bin/sh
# The way of a control host from bare Debian, as docs/bundle-build.md has it. Takes a directory with medium/ (volumes),
# allowed_signers and bundle/ (empty).
set -eu
cd "$1/bundle"
cat ../medium/*.tar.* | tar -x

ssh-keygen -Y verify -f ../allowed_signers -I scenario@lumen.example -n lumen-airgap-bundle -s SHA256SUMS.sig <SHA256SUMS &&
    sha256sum --check --quiet SHA256SUMS
python3 -m venv ../venv
../venv/bin/pip install --no-index --find-links wheels/control --require-hashes -r wheels/control/requirements.txt &&
    ../venv/bin/ansible-galaxy collection install --offline --no-deps collections/*.tar.gz

../venv/bin/ansible-playbook --version
../venv/bin/ansible-doc --list --type module lumen.airgap
