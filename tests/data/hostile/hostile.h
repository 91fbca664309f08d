/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef HOSTILE_H
#define HOSTILE_H

struct attack {
	const char *name;
	int (*run)(void);
};

/* Each list ends with an entry without a name. */
extern const struct attack processor_attacks[];
extern const struct attack memory_attacks[];
extern const struct attack task_attacks[];
extern const struct attack device_attacks[];
extern const struct attack agent_attacks[];

#endif
