"""Tests of the tests: one-line sabotages of the core and of plugins, each turned red by a test that is named here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEDGER, SETTLE = "core/tests/test_ledger.py", "core/tests/test_settle.py"
HELD, REFUNDS, BATCHES = (f"core/tests/test_engine_{name}.py" for name in ("held", "refunds", "batches"))
CROWD, TAMPER = "tests/reliability/test_concurrency.py", "tests/reliability/test_tampering.py"
SERVED, POWER = "tests/reliability/test_server_killed.py", "tests/reliability/test_power_loss.py"
CLOCKS, RELAYS, ORDER = (f"tests/reliability/test_{name}.py" for name in ("clocks", "relays", "order"))
FAILOVER, SOAK, THROWS, FILES = (
    f"tests/reliability/test_{name}.py" for name in ("failover", "soak", "plugin_throws", "files")
)
ABROAD = "plugins/coalition/tests/test_abroad.py"
#: As small as the harnesses get.
SMALL = {
    "TALLY_EDITS": "200", "TALLY_CUTS": "40", "TALLY_CRASHES": "3", "TALLY_SERVER_CUTS": "8", "TALLY_JUMPS": "0",
    "TALLY_RELAYS": "4", "TALLY_ORDERS": "15", "TALLY_SOAK": "300", "TALLY_PARTNERS_KILLED": "2",
}  # fmt: skip

#: what is sabotaged, in which file, what stands there, what is planted, and the test that must see it
FAULTS = {
    "a balance may be overdrawn": (
        "ledger.py", "if amount > usable:", "if amount > usable + 100:", f"{LEDGER}::test_what_is_pending_or_due_cannot_be_spent"),
    "the latest expiry is spent first": (
        "ledger.py", "return lot.expires_at, lot.usable_from", "return -lot.expires_at, lot.usable_from", f"{LEDGER}::test_the_earliest_expiry_is_spent_first"),
    "a lot lives a microsecond too long": (
        "ledger.py", "if lot.expires_at <= now and lot.left", "if lot.expires_at < now and lot.left", f"{LEDGER}::test_each_lot_expires_once_at_its_instant"),
    "a deficit is forgiven": (
        "ledger.py", "absorbed = min(self.deficit, lot.left)", "absorbed = 0", f"{LEDGER}::test_a_deficit_is_absorbed_by_the_next_gain"),
    "take-backs are rounded up": (
        "ledger.py", "return granted * returned // value", "return -(-granted * returned // value)", f"{LEDGER}::test_take_backs_in_numbers"),
    "an odd leaf is hashed with itself": (
        "ledger.py", "            above.append(level[-1])\n        level = above\n    return level[0]",
        "            above.append(sha256(b'\\x01' + level[-1] * 2).digest())\n        level = above\n    return level[0]",
        f"{LEDGER}::test_the_root_is_that_of_the_standard_and_every_path_leads_to_it"),
    "the chain forgets the count": (
        "ledger.py", "for value in (writer, number, count))", "for value in (writer, number))", f"{LEDGER}::test_a_link_covers_everything_it_names"),
    "a rolling window is a day too long": (
        "windows.py", "- rolling_days(window) + 1", "- rolling_days(window)", f"{LEDGER}::test_windows_begin_on_these_days"),
    "rounding is always down": (
        "settle.py", "rounded = round_to_unit(scaled.total, unit.rounding)", "rounded = int(scaled.total)", f"{SETTLE}::test_the_total_is_rounded_once"),
    "a factor of 0 does not win": (
        "settle.py", "        if factor == 0:", "        if factor < 0:", f"{SETTLE}::test_gains_in_numbers"),
    "a cap forgets what it let through": (
        "settle.py", "room = cap.limit - used[key] if windowed", "room = cap.limit if windowed", f"{SETTLE}::test_caps_in_numbers"),
    "two that say the same stay as they came": (
        "settle.py", "if len({key(effect) for effect in effects}) < len(effects):", "if False:", f"{SETTLE}::test_equal_proposals_of_other_terms_come_to_the_same_in_any_order"),
    "windows of one name are used up twice": (
        "page.py", "max(windows.values()), _of_gains", "sum(windows.values()), _of_gains", f"{REFUNDS}::test_caps_of_two_windows_under_one_name_are_each_counted_once[sqlite]"),
    "grace revives what had expired": (
        "page.py", "                self.expire(account)  # what", "                # what", f"{REFUNDS}::test_days_of_grace_do_not_revive_what_was_due_in_the_same_lot[sqlite]"),
    "a gift may be given to oneself": (
        "page.py", "if move.to == self.event.member:", "if False:", f"{BATCHES}::test_nobody_gives_to_oneself[sqlite]"),
    "nobody notes what was taken back": (
        "undoing.py", "        return 0\n    working.take(entry, place, amount)", "        return 0",
        f"{REFUNDS}::test_earning_and_returning_is_nothing[sqlite]"),
    "an entry is decided as it is spelled": (
        "judge.py", 'decision = f"entry/{record.entry}"', 'decision = f"entry/{facts.entry}"', f"{HELD}::test_an_entry_is_decided_once_however_it_is_spelled[sqlite-01-1-0]"),
    "a refused event leaves its traces": (
        "judge.py", "            self.working.undo()\n            raise", "            raise", f"{BATCHES}::test_what_fails_within_an_event_leaves_no_trace_of_it[sqlite]"),
    "a release writes over what is newer": (
        "deferring.py", "if mark is not None and row is not None and _mark(row, rows) != mark:", "if False:",
        f"{HELD}::test_what_was_kept_meanwhile_is_not_written_over_by_a_release[sqlite]"),
    "an order may be sold twice": (
        "judge.py", 'if known and self.working.order(purchase.order, "sale", "guest"):', "if False:", f"{CROWD}::test_an_order_earns_once_whoever_reports_it[sqlite]"),
    "nothing follows from anything": (
        "judge.py", "            self._follow(plan, page, event, situation, skipped, own, reasons)\n        page.seed",
        "            pass\n        page.seed", f"{HELD}::test_what_a_reviewer_denies_of_the_consequences_does_not_sink_the_cause[sqlite]"),
    "a piece of the journal hangs in the air": (
        "glance.py", "or self.last != (number - 1, previous)", "or (done and self.last != (number - 1, previous))",
        "core/tests/test_crew.py::test_a_crew_looks_at_the_links_between_pieces[sqlite]"),
    "what is beside the chains is not counted": (
        "glance.py", 'f"SELECT count(*) FROM {piece.table}"', '"SELECT sum(count) FROM batch" if piece.table == "record" else "SELECT count(*) FROM batch"',
        "core/tests/test_crew.py::test_a_crew_sees_what_was_meddled_with[sqlite-a record of no batch]"),
    "every process sees an instant of its own": (
        "crew.py", "if all(each == far[0] for each in far):", "if True:",
        "core/tests/test_crew.py::test_all_of_a_crew_see_the_same_instant[sqlite]"),
    "another's lot is ours": (
        "loading.py", "sorted(working.people), sorted(self.lot_entries)", "range(99), sorted(self.lot_entries)", f"{REFUNDS}::test_points_go_back_although_the_lot_was_opened_beside_somebody_elses[sqlite]"),
    "what is counted twice is counted once": (
        "working.py", "counted[key] = amount if added is None else added + amount", "counted[key] = amount",
        f"{REFUNDS}::test_two_counts_of_one_rule_both_count[sqlite]"),
    "every claim is the first": (
        "store.py", "        if cur.rowcount == len(rows):\n            return {row[3]", "        if True:\n            return {row[3]", f"{CROWD}::test_the_same_event_fifty_times_is_one_event_and_one_answer[sqlite]"),
    "a refused id stays claimed": (
        "engine.py", "self.store.unclaim(cur, refused)", "pass", f"{BATCHES}::test_a_refused_id_is_free_for_whoever_comes_later[sqlite]"),
    "other facts under a known id are the same": (
        "engine.py", "elif known != arrival.canonical:", "elif known is None:", f"{BATCHES}::test_other_facts_under_a_known_id_are_a_conflict_in_the_same_batch_too[sqlite]"),
    "late events are judged by today's settings": (
        "engine.py", "        if then is None:\n            return judge.judge(arrival", "        if True:\n            return judge.judge(arrival", f"{REFUNDS}::test_late_events_are_judged_by_the_settings_of_then_with_the_counters_these_ask_for[sqlite]"),
    "depth is counted in slashes": (
        "engine.py", "depth = record.depth + 1", 'depth = record.id.count("/") + 1', f"{BATCHES}::test_an_emitted_event_that_a_crash_cut_off_is_found_and_goes_to_the_same_member[sqlite-a/b/c/d/e/f/g/h/i/j]"),
    "who was replaced writes on": (
        "engine.py", "not in (None, epoch):", "not in (None, epoch, epoch + 1):", "core/tests/test_writer.py::test_a_writer_whose_row_was_taken_over_writes_nothing_more_until_it_has_another"),
    "a caller who fails stops the writer": (
        "writer.py", "except Exception:  # whoever", "except ZeroDivisionError:  # whoever", "core/tests/test_writer.py::test_a_caller_who_gives_up_or_fails_does_not_stop_the_house"),
    "a lease keeps nobody out": (
        "jobs.py", "values(leased_until=self.now + job.lease, holder=self.holder)", "values(leased_until=self.now, holder=self.holder)", "core/tests/test_jobs.py::test_a_killed_job_is_nobody_elses_while_its_lease_lasts[sqlite]"),
    "a consumer sees everybody's records": (
        "outbox.py", "query = query.where(tables.record.c.tenant.in_(tenants))", "pass", "core/tests/test_outbox.py::test_a_consumer_sees_its_tenants_alone[sqlite]"),
    "the chain is not looked at": (
        "proofs.py", "if chain_hash(previous, root, writer, number, count) != chain:", "if False:", f"{TAMPER}::test_the_last_link_of_every_writer_is_looked_at"),
    "synchronous NORMAL": (
        "database.py", '"PRAGMA synchronous = FULL"', '"PRAGMA synchronous = NORMAL"', f"{POWER}::test_power_loss_takes_nothing_that_was_acknowledged"),
    "PostgreSQL need not wait for its disk": (
        "database.py", '"timezone": "UTC",', '"timezone": "UTC", "synchronous_commit": "off",', f"{POWER}::test_power_loss_of_a_server_takes_nothing_that_was_acknowledged"),
    "who just wrote writes again": (
        "database.py", "with _next_to_write(conn):", "with suppress():", "core/tests/test_database.py::test_a_process_that_writes_without_pause_lets_the_others_have_their_turn"),
    "what went out together is not looked at": (
        "wire.py", "result.command_tuples != asked.matched", "False", "core/tests/test_wire.py::test_a_refusal_among_what_goes_out_together_is_raised_before_the_commit[postgresql]"),
    "answered before it was written": (
        "writer.py", "outcomes = self._record([arrival for arrival, _ in taken])", "outcomes = [self.engine.dry_run(arrival) for arrival, _ in taken]",
        f"{SERVED}::test_a_server_that_is_killed_loses_and_doubles_nothing[sqlite]"),
    "a server that was robbed writes on": (
        "engine.py", "not in (None, epoch):", "in ('never',):", f"{SERVED}::test_servers_that_are_robbed_of_their_leases_go_on_under_others[sqlite]"),
    "the last points are there for everybody": (
        "ledger.py", "if amount > usable:", "if amount > usable + 100_000:", f"{SERVED}::test_twenty_tills_and_two_workers_spend_the_last_points_once[sqlite]"),
    "a receipt says when it was asked for": (
        "receipts.py", "received=moment(record.received),", 'received=moment(__import__("time").time_ns() // 1_000),',
        f"{SERVED}::test_the_same_request_fifty_times_at_once_and_after_a_restart[sqlite]"),
    "a lot ends a day early": (
        "ledger.py", "if lot.expires_at <= now and lot.left", "if lot.expires_at <= now + 86_400_000_000 and lot.left",
        f"{CLOCKS}::test_clocks_that_jump_expire_nothing_twice_early_or_never[sqlite]"),
    "a consumer is told of its last batch again": (
        "outbox.py", "rows.c.number > after)", "rows.c.number >= after)", f"{RELAYS}::test_a_consumer_that_is_killed_misses_nothing[sqlite-inside]"),
    "one early return is enough": (
        "judge.py", "if (waiting := self._unpark(row, arrival)) is not None]", "if (waiting := self._unpark(row, arrival)) is not None][:1]",
        f"{ORDER}::test_any_order_and_any_repetition_ends_the_same[sqlite]"),
    "a sweep believes whoever asked": (
        "engine.py", "at = at if history else min(at, now)", "pass",
        "core/tests/test_sweep.py::test_a_clock_that_is_set_back_between_the_question_and_the_sweep_expires_nothing_early[sqlite]"),
    "what is too early was never recorded": (
        "intake.py", "canonical, actor, early=at > latest)", "canonical, actor, early=False)",
        "core/tests/test_web.py::test_an_event_is_answered_the_same_after_the_clock_was_set_back[sqlite]"),
    "a glance does not look at sums": (
        "crew.py", "if any(left.values()):", "if left is None:", f"{TAMPER}::test_every_single_edit_is_found"),
    "a glance does not look at records": (
        "glance.py", "or merkle_root(hashes[done:end]) != root", "", f"{TAMPER}::test_every_single_edit_is_found"),
    "a glance never suffices": (
        "crew.py", "        return _add_up([(glance.seen, glance.totals)])\n", "        return None\n", f"{TAMPER}::test_a_glance_suffices_where_everything_adds_up[sqlite]"),
    "a standby need not have it": (
        "database.py", '"timezone": "UTC",', '"timezone": "UTC", "synchronous_commit": "off",',
        f"{FAILOVER}::test_a_standby_that_takes_over_has_all_that_was_acknowledged"),
    "who finds the server gone gives up at once": (
        "engine.py", "if database.retryable(error) and time.monotonic() < deadline:", "if database.retryable(error) and tries < 0:",
        f"{POWER}::test_a_server_whose_disk_fails_refuses_and_goes_on"),
    "each batch leaves a file open": (
        "writer.py", "outcomes = self._record([arrival for arrival, _ in taken])",
        "outcomes = self.__dict__.setdefault('kept', []).append(open('/dev/null')) or self._record([arrival for arrival, _ in taken])",
        f"{SOAK}::test_a_house_at_work_grows_no_files_no_threads_and_hardly_memory[sqlite]"),
    "a key that fits nothing is written down": (
        "keys.py", '    """The key that *text* is, if it opens anything at *now*; raises Unauthorized, which never says why."""',
        "    __import__('logging').getLogger('tallystick').warning('somebody came with %s', text)",
        f"{SOAK}::test_nothing_secret_is_said_in_logs_answers_or_files[sqlite]"),
    "a plugin that throws is passed over in silence": (
        "pipeline.py", '"            except BaseException as error:",\n            f"                {failed}",',
        '"            except BaseException as error:",\n            "                pass",', f"{THROWS}::test_a_plugin_that_throws_costs_nobody_else_anything[sqlite]"),
    "a tab in front hides a formula": (
        "exporting.py", '{"=", "+", "-", "@", "\\t", "\\r"}', '{"=", "+", "-", "@"}', f"{FILES}::test_no_cell_of_an_export_starts_a_formula[records]"),
    "an allowance is not used up": (
        "vr_kiosk/hooks.py", "Take(rule=rule, key=key, amount=reward.points, reversible=False), spend]", "spend]",
        "plugins/vr_kiosk/tests/test_partition.py::test_devices_that_are_cut_off_never_give_more_than_their_allowances[sqlite-proxy]"),
    "an operation is whatever its frame is": (
        "vr_kiosk/desk.py", '"id": f"{frame.device}/{frame.operation}", "source"', '"id": f"{frame.device}/{frame.counter}", "source"',
        "plugins/vr_kiosk/tests/test_groups.py::test_the_same_operation_under_another_number_is_done_once[sqlite]"),
    "an answer is forgotten": (
        "vr_kiosk/store.py", "        conn.execute(_KEEP_ANSWER, rows)", "        pass",
        "plugins/vr_kiosk/tests/test_groups.py::test_a_house_killed_within_a_group_does_nothing_twice_and_answers_alike[sqlite-answers kept]"),
    "a partner's message is heard as often as it comes": (
        "coalition/calls.py", "if conn.execute(new_one).first() is None:", "if conn.execute(new_one).first() is ...:",
        "tests/reliability/test_two_deployments.py"),
    "old messages of a partner are heard again": (
        "coalition/calls.py", "if sequence < latest - WINDOW:", "if sequence < 0:",
        f"{ABROAD}::test_sequences_within_the_window_are_heard_once_in_any_order_and_what_lies_before_it_never[sqlite]"),
    "whoever signs is the partner": (
        "coalition/signing.py", "if agreement.fingerprint(key) not in prints:", "if not prints:",
        f"{ABROAD}::test_a_key_is_replaced_while_both_are_known_and_then_revoked"),
    "what is not signed is an answer": (
        "coalition/line.py", 'signing.check_answer(self.partner.prints, status, got, said, headers["signature"])', "assert status",
        f"{ABROAD}::test_what_the_partner_did_not_sign_is_no_answer[not signed]"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_by_the_test_that_is_named(fault: str, tmp_path: Path) -> None:
    file, stands, planted, test = FAULTS[fault]
    if "power_loss" in test and not (Path("/dev/fuse").exists() and shutil.which("fusermount3")):
        pytest.skip("no FUSE here: the test that would see it cannot run")
    if test.startswith(CLOCKS) and not shutil.which("faketime"):
        pytest.skip("no faketime here: the test that would see it cannot run")
    plugin, _, name = file.rpartition("/")
    whole = ROOT / "plugins" / plugin / f"tallystick_{plugin}" if plugin else ROOT / "core" / "tallystick"
    shutil.copytree(whole, tmp_path / whole.name, ignore=shutil.ignore_patterns("__pycache__"))
    room = tmp_path / whole.name / name
    text = room.read_text()
    assert text.count(stands) == 1, "the line has moved: plant the fault where it is now"
    room.write_text(text.replace(stands, planted))
    environment = os.environ | SMALL | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 1, f"{test} does not see it:\n{run.stdout[-3000:]}{run.stderr[-500:]}"
