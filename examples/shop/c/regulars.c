/* regulars: a merchant who likes customers with loyalty points. build.sh makes three versions of it: one that gives
 * more, and one that does not start. */
#include "../points.h"

#ifndef VERSION
#define VERSION "1.0.0"
#define PERCENT 10
#endif

FERRULE_PLUGIN(FERRULE_NAME("regulars") FERRULE_VERSION(VERSION) FERRULE_THREADS("concurrent")
                   FERRULE_DESCRIPTION("A discount for customers with 1,000 loyalty points or more."));

FERRULE_IMPORT(loyalty_points);
FERRULE_IMPORT_META(loyalty_points, FERRULE_KEY("why", "to know who comes often"));

FERRULE_HOOK_META(before_checkout, FERRULE_DOC("Has nothing to say to customers with fewer points."));
FERRULE_HOOK(before_checkout) { return discount_for_points(call, FERRULE_ORDINAL(loyalty_points), PERCENT); }

#ifdef BROKEN
FERRULE_START { return ferrule_fail(call, FERRULE_FAILED, "the discounts of this version are not decided yet"); }
#endif
