/* What is known of each chunk of the arena: how many of its pages are in use, how many idle ones are resident, when one
 * became free last, and whether memory stands behind its mark bits.
 *
 * The page heap notes here every change of a page; pageheap_scavenge.c chooses by it.  All under the page heap's lock. */
#ifndef MIDDEN_PAGE_CHUNKS_H
#define MIDDEN_PAGE_CHUNKS_H

#include "os/os.h"
#include "page/pageheap.h"

/* Free pages got an owner.  Before their residency is set. */
void chunks_note_claimed(struct pageheap *heap, uintptr_t start, size_t pages, bool all_resident);

/* Pages became free, all of them resident or none. */
void chunks_note_freed(struct pageheap *heap, uintptr_t start, size_t pages, bool resident, uint64_t now_ns);

/* `resident` of the pages of a part of one chunk were given back.  Where they were the last of it, and none that shares the memory of
 * its mark bits has a page in use or resident, those go too. */
void chunks_note_released(struct pageheap *heap, uintptr_t start, size_t resident);

/* Notes that the memory behind a run of a free span is gone, and files the span anew; returns how many pages of the run
 * were resident.  In pageheap_release.c. */
size_t pageheap_note_released_locked(struct pageheap *heap, struct span *span, struct os_range run);

#endif
