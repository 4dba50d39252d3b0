/* Roots beside the threads: ranges that the program added, and the static data of the loaded objects.
 *
 * The added ranges and the exclusions are under a lock that is taken in critical sections only.  The objects' data is
 * read afresh at the stop whenever the set of loaded objects has changed; see roots_stop_world. */
#ifndef MIDDEN_MUTATOR_ROOTS_H
#define MIDDEN_MUTATOR_ROOTS_H

#include <stdbool.h>
#include <stddef.h>

#include "midden/midden.h"
#include "mutator/mutator.h"

/* Critical sections.  0 or -ENOMEM. */
int roots_add(struct os_range range);
int roots_remove(struct os_range range);
int roots_exclude(struct os_range range);

/* Whether the static data of loaded objects counts; atomic. */
void roots_scan_modules(bool scan);
void roots_set_module_filter(midden_module_filter_fn *filter);

/* Stops the world at a moment when no object is being loaded or unloaded, and learns their data if they changed.  The
 * stopping thread holds the threads lock.  False where there was no memory to learn them: the world is stopped, but its
 * roots are not known. */
bool roots_stop_world(struct mutator *self);

/* While the world runs, the collector lock held: learns the data of the loaded objects if they changed; false where there
 * was no memory.  Then visits every range in pieces; each is there while it is visited: the lock that adding and removing
 * ranges takes is held, and the loader's.  The visitor takes no lock but those that come after ROOTS.  False if objects came
 * meanwhile, and there was no memory to learn them. */
bool roots_learn(struct mutator *self);
bool roots_visit_running(struct mutator *self, void (*visit)(void *argument, struct os_range range), void *argument);

/* A module is not what was learned: the next stop, or cycle, learns all of them.  Any thread. */
void roots_learn_anew(void);

/* The world stopped: visits every range that was added, and the data of loaded objects; gives those that have thread-local
 * storage. */
typedef void roots_visit_fn(void *argument, struct os_range range);
void roots_visit_added(roots_visit_fn *visit, void *argument);
void roots_visit_modules(roots_visit_fn *visit, void *argument);
const struct os_tls_module *roots_tls_modules(size_t *count);

/* Critical sections.  Visits what of a range was added; the visitor takes no lock but those that come after ROOTS. */
void roots_visit_added_in(struct os_range range, roots_visit_fn *visit, void *argument);

/* The first piece of that, of at most 32 KiB; false if there is none. */
bool roots_first_added_in(struct os_range range, struct os_range *piece);

/* ---- what was written of the data of loaded objects (mutator/written.h) ----
 *
 * Of long ranges; short ones are read in no time, and so are those of which the system does not tell. */

/* Before a cycle visits any, the collector lock held: protects the long ones. */
void roots_protect(void);

/* While the world runs: visits what was written since, of the long ones, and protects it again.  In bytes, how much. */
size_t roots_visit_written_running(roots_visit_fn *visit, void *argument);

/* The world stopped, in the place of roots_visit_modules: leaves out what was not written since roots_visit_running has read it.
 * Where that has not read all there is now (objects came or went, the program's filter changed, static data was no root), all. */
void roots_visit_modules_written(roots_visit_fn *visit, void *argument);

#endif
