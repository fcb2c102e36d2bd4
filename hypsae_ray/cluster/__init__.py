"""All of Ray: session, pools of replicas, placement, the trainer, checks and metrics."""
