# What every Ray process on a launched node has in its environment; sourced by setup and start commands.

# No request without the token: `ray up` copies it from ~/.ray/auth_token of the machine that launches.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token"

# Stages that reserve no GPU see none; Ray 2.60 shows them all otherwise.
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1

# A job that is stopped has 30 s, not 3, to leave its run folder in order before it is killed.
export RAY_JOB_STOP_WAIT_TIME_S=30

# `ray up` sets 1 for its own commands, and all actors would inherit it: embedding on a CPU would use one core.
unset OMP_NUM_THREADS

# Models are kept on the local NVMe where the machine image mounts one, and loaded once per node.
if [ -w /opt/dlami/nvme ]; then models=/opt/dlami/nvme/models; else models="$HOME/models"; fi
export HF_HOME="$models/huggingface" HYPSAE_CACHE="$models/hypsae"

# Keys (HF_TOKEN, OPENAI_API_KEY) are lines of this file, and stand in no YAML, argument or runtime_env.
if [ -r "$HOME/.hypsae/keys" ]; then set -a; . "$HOME/.hypsae/keys"; set +a; fi

export PATH="$HOME/venv/bin:$HOME/.local/bin:$PATH"
