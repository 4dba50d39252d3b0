/* What the Linux files of this layer share among themselves and with their unit test; nobody else includes it. */
#ifndef MIDDEN_OS_OS_LINUX_H
#define MIDDEN_OS_OS_LINUX_H

#include <stdbool.h>
#include <stdint.h>

#include "os/os.h"

struct dl_phdr_info;

/* Whether os_fail_after wants the present call to fail. */
bool os_linux_fault_due(void);

/* The part of os_init that lives in os_linux_modules.c. */
void os_linux_init_thread_storage(void);

/* The smallest memory limit, in bytes, and the smallest processor quota, rounded up to whole processors, of the
 * control groups that `groups` names (the text of /proc/self/cgroup) and of their parents, below the folder `mount`.
 * UINT64_MAX where there is no limit. */
uint64_t os_linux_group_memory_bytes(const char *mount, const char *groups);
uint64_t os_linux_group_processors(const char *mount, const char *groups);

/* Describes one loaded object as os_visit_modules promises.  `own_address` lies in the library's code. */
void os_linux_visit_module(const struct dl_phdr_info *info, uintptr_t own_address,
                           void (*visit)(void *argument, const struct os_module *module), void *argument);

#endif
