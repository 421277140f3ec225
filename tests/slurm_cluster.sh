#!/usr/bin/env bash
# Runs affect prepare as an array of jobs, and affect train in several processes, under a real Slurm on this machine:
# munge, slurmctld and slurmd on loopback.
#
#     tests/slurm_cluster.sh PYTHON        or: make test-cluster
#
# Where Slurm is absent, root installs Debian's packages. All else (keys, sockets, logs, spool) is in a temporary folder
# that is removed at the end, and the daemons are stopped. Needs root, because slurmd starts jobs for a user.
set -euo pipefail
python=$(realpath -s "${1:?usage: tests/slurm_cluster.sh PYTHON}")
cd "$(dirname "$0")/.."

fail() { echo "test-cluster: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "slurmd needs root. Run as root, in a container."
missing=()
for program in slurmctld slurmd sbatch munged; do PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || missing+=("$program"); done
if [ "${#missing[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null || fail "${missing[*]} are absent, and there is no apt-get. Install Slurm and munge."
  # Without policy-rc.d apt-get would start the daemons with the machine's own configuration.
  policy=/usr/sbin/policy-rc.d
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; made_policy=1; }
  installed=0
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
    slurmctld slurmd slurm-client munge; } >/dev/null 2>&1 && installed=1
  [ -z "${made_policy:-}" ] || rm $policy
  [ $installed = 1 ] || fail "${missing[*]} are absent, and apt-get could not install slurmctld, slurmd, slurm-client and munge."
fi
PATH=$PATH:/usr/sbin

work=$(mktemp -d -t affect-slurm-XXXXXX)
chmod 755 "$work"
pids=()
stop() {
  code=$?
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  if [ $code != 0 ]; then tail -n 20 "$work"/*.log "$work"/jobs/* 2>/dev/null >&2 || true; fi
  rm -rf "$work"
}
trap stop EXIT

host=$(hostname -s)
ports=$("$python" -c 'import socket
sockets = [socket.socket() for _ in range(2)]
for each in sockets: each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))')
read -r port_of_controller port_of_node <<<"$ports"
mkdir -p "$work"/munge "$work"/state "$work"/spool "$work"/jobs
chmod 755 "$work"/munge
head -c 1024 /dev/urandom >"$work"/munge/key
chmod 600 "$work"/munge/key
cat >"$work"/slurm.conf <<CONF
ClusterName=affect
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port_of_controller
SlurmdPort=$port_of_node
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=30 State=UP
CONF
export SLURM_CONF=$work/slurm.conf

munged --foreground --force --socket="$work"/munge/socket --key-file="$work"/munge/key --pid-file="$work"/munge/pid \
  --seed-file="$work"/munge/seed --log-file="$work"/munged.log >"$work"/munge.log 2>&1 &
pids+=($!)
for _ in $(seq 100); do [ -S "$work"/munge/socket ] && break; sleep 0.1; done
[ -S "$work"/munge/socket ] || fail "munged did not start."
slurmctld -D -c >"$work"/controller.log 2>&1 &
pids+=($!)
slurmd -D -N "$host" >"$work"/node.log 2>&1 &
pids+=($!)
for _ in $(seq 300); do
  [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && break
  sleep 0.2
done
[ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] || fail "Slurm did not start: $(sinfo 2>&1 | tail -1)"
echo "$(sbatch --version) on loopback"
AFFECT_SLURM_JOBS=$work/jobs "$python" -m pytest -q -m cluster tests/test_slurm.py
