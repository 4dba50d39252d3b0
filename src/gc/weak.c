#include "gc/weak.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/atomic.h"
#include "base/check.h"
#include "gc/table.h"
#include "span/object.h"

struct weak_holder {
  struct special special;
  struct weak_link *first;
};

static struct lock links_lock = LOCK_INIT(LOCK_RANK_LINKS);
static struct table by_link[2]; /* struct weak_link; one for each `when`; under links_lock */

static struct table *table_of(const struct weak_link *record) {
  return &by_link[record->many.special.kind == SPECIAL_LINK_AFTER];
}

static uint8_t kind_of(enum midden_weak_when when) {
  return when == MIDDEN_WEAK_BEFORE_FINALIZERS ? SPECIAL_LINK_BEFORE : SPECIAL_LINK_AFTER;
}

static bool has_died(const struct weak_link *record) {
  return record->many.special.target_died || record->many.special.holder_died;
}

/* The living record of a link, or NULL. */
static struct weak_link *find_locked(uintptr_t link, enum midden_weak_when when) {
  struct weak_link *record = table_get(&by_link[when], link);
  return record != NULL && !has_died(record) ? record : NULL;
}

/* ---- the target ---- */

static int attach_target_locked(struct weak_link *record, uintptr_t target) {
  struct span *span = object_span(target);
  record->many.special.object = target;
  lock_acquire(special_lock(span));
  int error = special_add_locked(span, &record->many.special);
  lock_release(special_lock(span));
  if (error != 0) record->many.special.object = 0;
  return error;
}

static void detach_target_locked(struct weak_link *record) {
  if (record->many.special.object == 0) return;
  struct span *span = object_span(record->many.special.object);
  lock_acquire(special_lock(span));
  special_remove_locked(span, &record->many.special);
  lock_release(special_lock(span));
}

/* ---- the holder ---- */

static struct weak_holder *find_holder(const struct object *object) {
  lock_acquire(special_lock(object->span));
  struct special *record = special_find_locked(object->span, object->start, SPECIAL_HOLDER);
  lock_release(special_lock(object->span));
  return (struct weak_holder *)record; /* stays, as long as the links lock is held */
}

static struct weak_holder *make_holder(const struct object *object) {
  struct weak_holder *holder = special_alloc(true);
  if (holder == NULL) return NULL;
  *holder = (struct weak_holder){.special = {.object = object->start, .kind = SPECIAL_HOLDER}};
  lock_acquire(special_lock(object->span));
  int error = special_add_locked(object->span, &holder->special);
  lock_release(special_lock(object->span));
  if (error == 0) return holder;
  special_free(&holder->special);
  return NULL;
}

static void drop_holder(struct weak_holder *holder) {
  struct span *span = object_span(holder->special.object);
  lock_acquire(special_lock(span));
  special_remove_locked(span, &holder->special);
  lock_release(special_lock(span));
  special_free(&holder->special);
}

/* -EINVAL where the word lies in the heap, but in no object. */
static int attach_holder_locked(struct weak_link *record) {
  struct object object;
  if (!arena_contains(&heap_arena, record->link)) return 0;
  if (!object_find((void *)record->link, &object)) return -EINVAL;
  struct weak_holder *holder = find_holder(&object);
  if (holder == NULL) holder = make_holder(&object);
  if (holder == NULL) return -ENOMEM;
  record->many.special.in_holder = true;
  record->holder_previous = NULL;
  record->holder_next = holder->first;
  if (holder->first != NULL) holder->first->holder_previous = record;
  holder->first = record;
  return 0;
}

static void detach_holder_locked(struct weak_link *record) {
  if (!record->many.special.in_holder) return;
  struct weak_link *next = record->holder_next, *previous = record->holder_previous;
  record->many.special.in_holder = false;
  if (next != NULL) next->holder_previous = previous;
  if (previous != NULL) {
    previous->holder_next = next;
    return;
  }
  uint16_t info = heap_arena.page_info[arena_page_of(&heap_arena, record->link)];
  uintptr_t start = object_slot_start(record->link, info);
  struct object object = {.start = start, .span = object_span(start)};
  struct weak_holder *holder = find_holder(&object);
  ASSERT(holder != NULL && holder->first == record);
  holder->first = next;
  if (next == NULL) drop_holder(holder);
}

/* ---- the program's calls ---- */

/* A record that is in no table any more. */
static void forget_locked(struct weak_link *record) {
  detach_target_locked(record);
  detach_holder_locked(record);
  special_free(&record->many.special);
}

/* Enters a record in the table, in the place of the one before it, if any. */
static int enter_locked(struct weak_link *record) {
  struct table *table = table_of(record);
  if (table_get(table, record->link) == NULL) return table_add(table, record->link, record);
  table_replace(table, record->link, record);
  return 0;
}

static int add_locked(uintptr_t link, uintptr_t target, enum midden_weak_when when) {
  struct weak_link *record = special_alloc(false);
  if (record == NULL) return -ENOMEM;
  *record = (struct weak_link){.link = link};
  record->many.special.kind = kind_of(when);
  int error = attach_holder_locked(record);
  if (error == 0) error = attach_target_locked(record, target);
  if (error == 0) error = enter_locked(record);
  if (error != 0) forget_locked(record);
  return error;
}

/* The new record first: without memory for it the link stays as it is. */
int weak_link(uintptr_t link, uintptr_t target, enum midden_weak_when when) {
  lock_acquire(&links_lock);
  struct weak_link *before = find_locked(link, when);
  int error = add_locked(link, target, when);
  if (error == 0 && before != NULL) {
    forget_locked(before);
    error = -EEXIST;
  }
  lock_release(&links_lock);
  return error;
}

int weak_unlink(uintptr_t link, enum midden_weak_when when) {
  lock_acquire(&links_lock);
  struct weak_link *record = find_locked(link, when);
  if (record != NULL) {
    table_remove(&by_link[when], link);
    forget_locked(record);
  }
  lock_release(&links_lock);
  return record != NULL ? 0 : -ENOENT;
}

/* The table has room for the new place, since the old one was just removed; the new holder may need memory, so it comes
 * first, by way of a second record. */
static int move_locked(struct weak_link *record, uintptr_t to, enum midden_weak_when when) {
  uintptr_t from = record->link, target = record->many.special.object;
  if (find_locked(to, when) != NULL) return -EEXIST;
  int error = add_locked(to, target, when);
  if (error != 0) return error;
  table_remove(&by_link[when], from);
  forget_locked(record);
  return 0;
}

int weak_move(uintptr_t from, uintptr_t to, enum midden_weak_when when) {
  lock_acquire(&links_lock);
  struct weak_link *record = find_locked(from, when);
  int error = record == NULL ? -ENOENT : 0;
  if (record != NULL && from != to) error = move_locked(record, to, when);
  lock_release(&links_lock);
  return error;
}

static void clear_word(const struct weak_link *record) { atomic_store_release((void **)record->link, (void *)NULL); }

/* Links that died are left to weak_forget_died_*, which has them in a list. */
static void free_target_locked(uintptr_t target, uint8_t kind) {
  struct span *span = object_span(target);
  for (;;) {
    lock_acquire(special_lock(span));
    struct weak_link *record = (struct weak_link *)special_find_locked(span, target, kind);
    if (record != NULL) special_remove_locked(span, &record->many.special);
    lock_release(special_lock(span));
    if (record == NULL) return;
    if (record->many.special.holder_died) continue;
    clear_word(record);
    table_remove(table_of(record), record->link);
    forget_locked(record);
  }
}

static void free_holder_locked(uintptr_t object) {
  struct object found = {.start = object, .span = object_span(object)};
  struct weak_holder *holder;
  while ((holder = find_holder(&found)) != NULL) {
    struct weak_link *record = holder->first;
    detach_holder_locked(record);
    if (has_died(record)) continue;
    table_remove(table_of(record), record->link);
    forget_locked(record);
  }
}

static bool has_links(const struct span *span, uintptr_t object) {
  lock_acquire(special_lock(span));
  bool has = special_find_locked(span, object, SPECIAL_LINK_BEFORE) != NULL ||
             special_find_locked(span, object, SPECIAL_LINK_AFTER) != NULL ||
             special_find_locked(span, object, SPECIAL_HOLDER) != NULL;
  lock_release(special_lock(span));
  return has;
}

void weak_object_freed(uintptr_t object) {
  if (!has_links(object_span(object), object)) return;
  lock_acquire(&links_lock);
  free_target_locked(object, SPECIAL_LINK_BEFORE);
  free_target_locked(object, SPECIAL_LINK_AFTER);
  free_holder_locked(object);
  lock_release(&links_lock);
}

/* ---- the collector's ---- */

void weak_lock_links(void) { lock_acquire(&links_lock); }
void weak_pass_links(void) { lock_pass(&links_lock); }
void weak_unlock_links(void) { lock_release(&links_lock); }

void weak_target_died(struct special *first) {
  struct weak_link *record = (struct weak_link *)first;
  do {
    /* The word may lie in an object that is dead too; its memory is still there. */
    clear_word(record);
    record->many.special.target_died = true;
    record->many.special.object = 0;
    record = (struct weak_link *)record->many.next_alike;
  } while (&record->many.special != first);
}

void weak_holder_died(struct special *special, struct weak_link **died) {
  struct weak_holder *holder = (struct weak_holder *)special;
  for (struct weak_link *record = holder->first, *next; record != NULL; record = next) {
    next = record->holder_next;
    record->many.special.in_holder = false;
    record->many.special.holder_died = true;
    record->holder_next = *died;
    *died = record;
  }
}

/* Its place in the table may be another's by now. */
static void leave_table_locked(const struct weak_link *record) {
  struct table *table = table_of(record);
  if (table_get(table, record->link) == record) table_remove(table, record->link);
}

void weak_forget_died_holders(struct weak_link **died, size_t max) {
  lock_acquire(&links_lock);
  for (; max > 0 && *died != NULL; max--) {
    struct weak_link *record = *died;
    *died = record->holder_next;
    leave_table_locked(record);
    if (record->many.special.target_died) {
      record->many.special.holder_died = false; /* weak_forget_died_target has it, too */
    } else {
      forget_locked(record);
    }
  }
  lock_release(&links_lock);
}

void weak_forget_died_target(struct special *first) {
  lock_acquire(&links_lock);
  struct special_many *record = (struct special_many *)first, *next;
  do {
    next = record->next_alike;
    leave_table_locked((struct weak_link *)record);
    detach_holder_locked((struct weak_link *)record);
    special_free(&record->special);
    record = next;
  } while (&record->special != first);
  lock_release(&links_lock);
}
