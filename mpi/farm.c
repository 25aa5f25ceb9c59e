/* farm: the one loop of a rank while an archive is screened: messages, the shell's step, on rank 0 the dealer's step,
 * and then a poll of at most 5 ms, so that no core spins and no message waits long. */
#include "mpi/farm.h"
#include "mpi/dealer.h"
#include "mpi/protocol.h"
#include "mpi/shell.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { POLL_MS = 5, AT_ONCE = 1000 }; /* messages handled before the children are looked at again */

static farm_options with_defaults(const farm_options *given)
{
    farm_options o = *given;
    if (o.read_ahead <= 0) o.read_ahead = 2;
    if (o.ahead_bytes <= 0) o.ahead_bytes = (int64_t)2 << 30;
    if (o.volume_bytes <= 0) o.volume_bytes = (int64_t)4 << 30;
    if (o.voxels_per_second <= 0) o.voxels_per_second = 1e6;
    if (o.header_seconds <= 0) o.header_seconds = 60;
    if (o.open_seconds <= 0) o.open_seconds = 300;
    if (o.grace_seconds <= 0) o.grace_seconds = 20;
    if (o.beat_seconds <= 0) o.beat_seconds = 60;
    if (o.start_seconds <= 0) o.start_seconds = 3600;
    return o;
}

static int to_dealer(int kind)
{
    return kind == PROTOCOL_WANT || kind == PROTOCOL_HEAD || kind == PROTOCOL_DONE || kind == PROTOCOL_DROPPED ||
           kind == PROTOCOL_EVENT || kind == PROTOCOL_SIGNAL || kind == PROTOCOL_BYE;
}

typedef struct farm {
    world *world;
    shell *shell;
    dealer *dealer; /* rank 0 */
    int told;       /* the failure came from rank 0, which prints it */
} farm;

static status take_messages(farm *f)
{
    message in = {0};
    status s = COV_OK;
    int own_beat = 0; /* a BEAT from rank 0 to itself is for both sides */
    for (int k = 0; k < AT_ONCE && s == COV_OK; k++) {
        int from;
        s = world_next(f->world, &in, &from);
        if (s != COV_OK || from < 0) break;
        int kind = message_kind(&in), both = kind == PROTOCOL_BEAT || kind == PROTOCOL_FATAL;
        own_beat = from == world_rank(f->world) && kind == PROTOCOL_BEAT;
        if (f->dealer && (to_dealer(kind) || (both && from > 0) || own_beat)) s = dealer_take(f->dealer, from, &in);
        if (!f->dealer && kind == PROTOCOL_FATAL) f->told = 1;
        if (s == COV_OK && !to_dealer(kind) && (from == 0)) {
            message_rewind(&in);
            s = shell_take(f->shell, &in);
        }
    }
    message_free(&in);
    return s;
}

static void wait_a_moment(const farm *f)
{
    struct pollfd p[SHELL_SOCKETS];
    int n = shell_sockets(f->shell, p);
    poll(p, (nfds_t)n, POLL_MS);
}

/* All sends are out, or two seconds have passed. */
static void flush(farm *f)
{
    double end = world_now() + 2;
    while (world_pending(f->world) > 0 && world_now() < end) {
        message in = {0};
        int from;
        if (world_next(f->world, &in, &from) != COV_OK) break;
        message_free(&in);
        wait_a_moment(f);
    }
}

static status loop(farm *f)
{
    for (;;) {
        COV_TRY(take_messages(f));
        COV_TRY(shell_step(f->shell));
        if (f->dealer) COV_TRY(dealer_step(f->dealer));
        if (shell_gone(f->shell) && (!f->dealer || dealer_gone(f->dealer))) return COV_OK;
        wait_a_moment(f);
    }
}

/* Something failed here: rank 0 tells all, another rank tells rank 0, and whoever was told lets the teller speak. */
static void end_badly(farm *f, status s, farm_report *out)
{
    struct timespec second = {1, 0};
    if (f->dealer) dealer_fatal(f->dealer, s);
    else if (!f->told && s != COV_COMM && world_rank(f->world) > 0) {
        message m = {0};
        message_start(&m, PROTOCOL_FATAL);
        message_put_i64(&m, s);
        message_put_text(&m, status_message());
        if (world_send(f->world, 0, &m) == COV_OK) f->told = 1;
        message_free(&m);
    }
    out->speaker = !f->told;
    flush(f);
    if (f->told) nanosleep(&second, NULL);
}

status farm_run(world *w, spawner *s, const farm_options *given, farm_report *out)
{
    farm f = {.world = w};
    farm_options o = with_defaults(given);
    char text[1024];
    status done;
    *out = (farm_report){0};
    done = shell_new(w, s, &o, &f.shell);
    if (done == COV_OK && world_rank(w) == 0) done = dealer_new(w, &o, &f.dealer);
    if (done == COV_OK) done = loop(&f);
    if (done == COV_OK && f.dealer) done = dealer_report(f.dealer, out);
    if (f.shell) out->stopped = shell_stopped(f.shell);
    if (done == COV_OK) flush(&f);
    else if (f.shell) end_badly(&f, done, out);
    else out->speaker = 1; /* nobody was told: without a shell nothing is sent */
    /* Tidying up may fail too, and then what it says of itself must not stand where the reason stood. */
    snprintf(text, sizeof text, "%s", status_message());
    dealer_free(&f.dealer);
    shell_free(&f.shell);
    return done == COV_OK ? COV_OK : COV_FAIL(done, "%s", text);
}

void farm_report_free(farm_report *r)
{
    for (int64_t k = 0; r->outcomes && k < r->study_count; k++) free(r->outcomes[k].detail);
    free(r->outcomes);
    *r = (farm_report){0};
}
