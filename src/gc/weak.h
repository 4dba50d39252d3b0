/* Weak links: words that the collector clears when the object they name dies.
 *
 * A record for each link, found by the link's address and, to be dropped when the target is freed, by the target's.
 * All under the specials lock, or while the world is stopped.  See midden_weak_link for what a link means. */
#ifndef MIDDEN_GC_WEAK_H
#define MIDDEN_GC_WEAK_H

#include <stdint.h>

#include "base/lock.h"
#include "midden/midden.h"

/* Guards weak links and finalizers. */
extern struct lock specials_lock;

void weak_init(void);

/* Critical sections; they take the lock.  `target` is the first byte of an object.  Errors as in midden.h. */
int weak_link(uintptr_t link, uintptr_t target, enum midden_weak_when when);
int weak_unlink(uintptr_t link, enum midden_weak_when when);
int weak_move(uintptr_t from, uintptr_t to, enum midden_weak_when when);

/* An object is freed: clears the links to it and forgets those in it. */
void weak_object_freed(uintptr_t object, uintptr_t end);

/* The world stopped: clears the links whose targets are not marked. */
void weak_clear_dead_stw(enum midden_weak_when when);

/* The world stopped, marking done: forgets the links that lie in dead objects. */
void weak_forget_dead_links_stw(void);

#endif
