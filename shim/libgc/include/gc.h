/* For programs that include <gc.h>: the interface is <gc/gc.h>. */
#include "gc/gc.h"
