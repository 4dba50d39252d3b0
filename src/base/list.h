/* Doubly linked intrusive lists.  A link knows its list, so that a removal from the wrong one is caught. */
#ifndef MIDDEN_BASE_LIST_H
#define MIDDEN_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

struct list;

struct link {
  struct link *next;
  struct link *prev;
  struct list *list; /* the list that it is on, or NULL */
};

struct list {
  struct link *first;
  struct link *last;
  size_t count;
};

static inline bool list_is_empty(const struct list *list) { return list->first == NULL; }

static inline void list_push_front(struct list *list, struct link *link) {
  CHECK(link->list == NULL, "list: link %p is on a list already", (void *)link);
  link->list = list;
  link->prev = NULL;
  link->next = list->first;
  if (list->first != NULL) {
    list->first->prev = link;
  } else {
    list->last = link;
  }
  list->first = link;
  list->count++;
}

static inline void list_push_back(struct list *list, struct link *link) {
  CHECK(link->list == NULL, "list: link %p is on a list already", (void *)link);
  link->list = list;
  link->next = NULL;
  link->prev = list->last;
  if (list->last != NULL) {
    list->last->next = link;
  } else {
    list->first = link;
  }
  list->last = link;
  list->count++;
}

static inline void list_remove(struct list *list, struct link *link) {
  CHECK(link->list == list, "list: link %p is not on this list", (void *)link);
  if (link->prev != NULL) {
    link->prev->next = link->next;
  } else {
    list->first = link->next;
  }
  if (link->next != NULL) {
    link->next->prev = link->prev;
  } else {
    list->last = link->prev;
  }
  *link = (struct link){0};
  list->count--;
}

static inline struct link *list_pop_front(struct list *list) {
  struct link *link = list->first;
  if (link != NULL) list_remove(list, link);
  return link;
}

#endif
