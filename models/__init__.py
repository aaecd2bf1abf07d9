"""Learning and artifacts: networks, distillation, consolidation, teachers. Knows torch only."""
