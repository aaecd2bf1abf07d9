"""What the Grafana dashboard shows of the daemon: its stream, its learning, its state."""

from dashboard_panel import Panel, Query, increase, of, or_zero, quantile, rate

STREAM = (
    Panel(
        title="Records read",
        says="By topic.",
        queries=[Query(rate("teacherd_records_consumed_total", "topic"), "{{topic}}")],
        unit="reqps",
    ),
    Panel(
        title="Records refused",
        says="By reason; they are in the dead letters.",
        queries=[Query(rate("teacherd_records_rejected_total", "reason"), "{{reason}}")],
        unit="reqps",
    ),
    Panel(
        title="Unread records",
        says="By partition.",
        queries=[Query(of("teacherd_consumer_lag_records"), "{{topic}}/{{partition}}")],
    ),
    Panel(
        title="Age of the oldest undecided record",
        says="A saw as high as tasks.max_age_seconds is usual on a slow stream.",
        queries=[Query(of("teacherd_consumer_lag_seconds"))],
        unit="s",
        tolerance=3600,
    ),
    Panel(
        title="Retention margin",
        says="Until the source deletes a record that is not decided yet; infinite where it never "
        "does.",
        queries=[Query(of("teacherd_retention_margin_seconds"))],
        unit="s",
        tolerance=21600,
        is_better_below=False,
    ),
    Panel(
        title="Deferred records",
        says="They wait for their label to become a class; nearly as many labels are out of thin "
        "air.",
        queries=[
            Query(of("teacherd_deferred_records"), "{{instance}} records"),
            Query(of("teacherd_deferred_labels"), "{{instance}} labels"),
        ],
    ),
    Panel(
        title="Buffer",
        says="Records that wait for their task, and how many may.",
        queries=[
            Query(of("teacherd_buffer_records"), "{{instance}} waiting"),
            Query(of("teacherd_buffer_capacity_records"), "{{instance}} capacity"),
        ],
    ),
)

SOURCE = (
    Panel(
        title="Stalled partitions",
        says="1: it has records to give and gives none.",
        queries=[
            Query(or_zero(of("teacherd_partition_stalled"), "topic"), "{{topic}} {{partition}}")
        ],
        tolerance=1,
    ),
    Panel(
        title="Commits that failed",
        says="Nothing is lost, but lag tools show too much.",
        queries=[
            Query(
                or_zero(increase("teacherd_commit_failures_total", "error"), "error"), "{{error}}"
            )
        ],
    ),
    Panel(
        title="Records lost",
        says="Gone before they were learned: longer retention, or faster learning.",
        queries=[Query(of("teacherd_records_lost_total"), "{{reason}}")],
        tolerance=1,
    ),
    Panel(
        title="Reads that failed",
        says="Tried again; the event source_unavailable has the error.",
        queries=[Query(increase("teacherd_source_failures_total"))],
    ),
    Panel(
        title="Since the source last answered",
        says="With or without records.",
        queries=[Query(f"time() - {of('teacherd_last_poll_timestamp_seconds')}")],
        unit="s",
        tolerance=120,
    ),
    Panel(
        title="Dead letters too large for their topic",
        says="They lie in the state directory.",
        queries=[Query(of("teacherd_dead_letters_too_large_total"))],
    ),
)

LEARNING = (
    Panel(
        title="Tasks closed",
        says="By what became of them.",
        queries=[
            Query(
                increase("teacherd_tasks_total", "outcome"),
                "{{outcome}}",
            )
        ],
    ),
    Panel(
        title="Instances learned",
        says="Of accepted tasks, a second.",
        queries=[Query(rate("teacherd_instances_learned_total"))],
        unit="reqps",
    ),
    Panel(
        title="Duration of a step",
        says="99th percentile and mean of an optimizer step.",
        queries=[
            Query(
                quantile(0.99, "teacherd_train_step_duration_seconds"),
                "{{instance}} 99 %",
            ),
            Query(
                f"{rate('teacherd_train_step_duration_seconds_sum')}"
                f" / {rate('teacherd_train_step_duration_seconds_count')}",
                "{{instance}} mean",
            ),
        ],
        unit="s",
    ),
    Panel(
        title="Duration of a task",
        says="Mean, from plan to everything being durable.",
        queries=[
            Query(
                f"{rate('teacherd_task_duration_seconds_sum')}"
                f" / {rate('teacherd_task_duration_seconds_count')}"
            )
        ],
        unit="s",
    ),
    Panel(
        title="Progress of the running task",
        says="0 between two tasks.",
        queries=[Query(of("teacherd_task_progress_ratio"))],
        unit="percentunit",
    ),
    Panel(
        title="Numbers that were not finite",
        says="Steps that were not taken, and tasks that are set aside.",
        queries=[
            Query(of("teacherd_nonfinite_losses_total"), "{{instance}} steps"),
            Query(of("teacherd_quarantined_tasks"), "{{instance}} tasks set aside"),
        ],
    ),
)

STATE = (
    Panel(
        title="Age of the served teacher",
        says="Grows while tasks are held, or while there is nothing to learn.",
        queries=[Query(of("teacherd_teacher_age_seconds"))],
        unit="s",
        tolerance=86400,
    ),
    Panel(
        title="Age of the last checkpoint",
        says="Inside a task, what a crash would repeat.",
        queries=[Query(f"time() - {of('teacherd_checkpoint_last_success_timestamp_seconds')}")],
        unit="s",
    ),
    Panel(
        title="Size of the last checkpoint",
        says="Small between two tasks.",
        queries=[Query(of("teacherd_checkpoint_size_bytes"))],
        unit="bytes",
    ),
    Panel(
        title="Rehearsal memory",
        says="Bytes that are kept to be learned again; 0 where it is off.",
        queries=[Query(of("teacherd_rehearsal_memory_bytes"))],
        unit="bytes",
    ),
    Panel(
        title="Memory",
        says="Resident; bounded whatever the stream does.",
        queries=[
            Query(of("process_resident_memory_bytes", 'job="teacherd"'), "{{instance}} resident"),
            Query(of("teacherd_buffer_bytes"), "{{instance}} buffer"),
            Query(of("teacherd_gpu_memory_bytes"), "{{instance}} CUDA"),
        ],
        unit="bytes",
    ),
    Panel(
        title="Processor",
        says="Cores in use.",
        queries=[
            Query(
                "rate(" + of("process_cpu_seconds_total", 'job="teacherd"') + "[$__rate_interval])"
            )
        ],
        unit="none",
    ),
    Panel(
        title="Build",
        says="Version of teacherd and torch; more than one: an upgrade is under way.",
        queries=[Query(of("teacherd_build_info"), "{{instance}} {{version}}, torch {{torch}}")],
        unit="none",
    ),
)
