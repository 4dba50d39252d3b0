/* Check mode: a second mark, the world stopped, that finds what the first one missed.
 *
 * It walks from the roots by itself, one object at a time, with a bit table of its own; of the marker it uses only what tells
 * where roots are and how a kind's objects are read.  It enters marked objects alone, so whatever unmarked object it meets
 * was met at an edge from the marked to the unmarked: that is the object to be named, and the path to that edge is known.
 *
 *     a marked object, static data, an added root,   [missed] the process stops, with both ends of the edge and the path
 *     thread-local storage refer to it; or it is
 *     itself a root
 *     a word on a stack or in a register does        [suspect] counted, not entered: such a word may be stale.  Whoever scanned
 *                                                    the stack before it was written there need not have seen it
 *
 * What belongs to no path: weak references do not keep, an ephemeron's value is referred to once both the key and the ephemeron
 * were reached, an object that only finalizers reach need not be marked.  Slots that wait in a thread's window are no objects,
 * nor is what a thread is clearing still.
 *
 * A minor cycle need not see what an old object referred to before: a word that names a slot which the program freed, or which was free
 * then, may name a young object now that nobody refers to.  So a word that has not changed since the last check, by a hash of its own
 * and not by what was told of it, proves nothing, and is not followed.  Nor need a cycle with white young objects see what a word
 * named before there was an object (gc/named_free.h).
 *
 * Trace functions and the program's root callback are called once more in each collection.
 *
 * What a missed object proves: that a word was stored without midden_store, or that the collector is wrong.  With one
 * exception: a number in a conservative object or in static data that looks like an address, stored as a number, is found
 * missed too.
 *
 * Memory: 1/128 of the heap for the bits, and for each object that is reached the page of a table (8 bytes for each 16 of the
 * heap) in which it is noted from where; where there are generations, 4 bytes for each word.  All of it is kept, and not counted as
 * metadata.  Where there is no memory nothing is checked, which is said once. */
#ifndef MIDDEN_OBSERVE_CHECK_H
#define MIDDEN_OBSERVE_CHECK_H

#include <stdbool.h>
#include <stddef.h>

/* The world stopped, all marked that is reachable, the sides not yet traded. */
void check_marks_stw(bool minor);

/* Suspects met so far; atomic. */
extern size_t check_suspects;

#endif
