/* Weak links: words that the collector clears when the object they name dies.
 *
 * One record for each link, found three ways:
 *
 *     by its own address    a hash table for each `when`, for the program to unlink and move
 *     by its target         the target's specials, SPECIAL_LINK_BEFORE or _AFTER: many
 *     by its holder         the object in which the word lies, if any, has a SPECIAL_HOLDER that starts a list of them
 *
 * so that a target that dies clears its links and a holder that dies takes its links along, without a look at any other.
 *
 * The links lock guards all three, and is held across each operation; a span's stripe is taken under it to change that
 * span's specials.  The collector goes by specials alone: while the world is stopped it stores NULL where a target died,
 * and notes on the record what happened.  The rest (hash table, lists) is done when the world runs again, by
 * weak_forget_* in the collecting thread and before the next mark phase.  Until then
 *
 *     target_died   the word is cleared, the record is with its target no more
 *     holder_died   the word is no more, its memory may be another object's; the record is with its holder no more
 *
 * and a record with either is as good as none: it is found by no operation, and freed by weak_forget_* alone.  Different
 * markers may write the two for the same record; neither reads the other's.
 *
 * See midden_weak_link for what a link means. */
#ifndef MIDDEN_GC_WEAK_H
#define MIDDEN_GC_WEAK_H

#include <stdint.h>

#include "gc/special.h"
#include "midden/midden.h"

struct weak_link {
  struct special_many many; /* of the target */
  uintptr_t link;
  struct weak_link *holder_next, *holder_previous; /* while in_holder; holder_next also in a list of those that died */
};

/* Critical sections; they take the lock.  `target` is the first byte of an object.  Errors as in midden.h. */
int weak_link(uintptr_t link, uintptr_t target, enum midden_weak_when when);
int weak_unlink(uintptr_t link, enum midden_weak_when when);
int weak_move(uintptr_t from, uintptr_t to, enum midden_weak_when when);

/* An object is freed: clears the links to it and forgets those in it. */
void weak_object_freed(uintptr_t object);

/* Keeps links from changing while the collector settles them beside the program. */
void weak_lock_links(void);
void weak_pass_links(void); /* lock_pass */
void weak_unlock_links(void);

/* The world stopped, or the links locked and the stripe held.  Both are given a record that was just taken out of its
 * object's list. */
void weak_target_died(struct special *first);
void weak_holder_died(struct special *holder, struct weak_link **died);

/* The world running, after both; critical sections. */
void weak_forget_died_holders(struct weak_link **died, size_t max);
void weak_forget_died_target(struct special *first);

#endif
