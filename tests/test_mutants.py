"""Would the tests notice? Every mutant is a mistake that the fast tests must kill; each names its killer."""

import os
from collections import Counter

import pytest

from attn_rl.backends.kernels.build import why_not
from tests.mutation import Mutant, mutated, run_jobs

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forked processes")

ATTENTION, NORMALIZER = "attn_rl/nn/attention.py", "attn_rl/nn/normalizer.py"
ENCODER, READOUT, NETWORK = "attn_rl/nn/encoder.py", "attn_rl/nn/readout.py", "attn_rl/nn/network.py"
TRIMMING, BASELINES = "attn_rl/backends/trimmed.py", "attn_rl/nn/baselines.py"
STRUCTURED = "attn_rl/sb3/structured/"
HEAD, MASKABLE, EXTRACTOR = "attn_rl/sb3/action_head.py", "attn_rl/sb3/maskable.py", "attn_rl/sb3/extractor.py"
SAVING, RESUME, SNAPSHOT = (f"attn_rl/training/run/{name}.py" for name in ("save_callback", "resume", "agent_state"))
REPLAYABLE, WORKERS = "attn_rl/vec_envs/replayable.py", "attn_rl/vec_envs/supervised.py"
CHECKPOINT, GENERATORS = "attn_rl/training/run/checkpoint.py", "attn_rl/training/run/random_state.py"
GUARDED_ENV, GUARDS = "attn_rl/vec_envs/guarded.py", "attn_rl/training/guarded_ppo.py"
EXPECTED_BLOCKS = "attn_rl/vec_envs/expected_blocks.py"
PPO, LOSSES, ROLLOUTS = "attn_rl/sb3/ppo.py", "attn_rl/sb3/losses.py", "attn_rl/sb3/collection.py"
UPDATE_KILLER = "tests/sb3/test_ppo.py::test_one_update_gives_the_weights_and_the_log_of_stable_baselines3"
RESUME_KILLER = "tests/training/run/test_resume.py::test_killed_and_resumed_is_bit_equal[4]"
GENERATORS_KILLER = "tests/training/run/test_random_state.py::test_every_generator_goes_on_where_it_was_captured"

MUTANTS = [
    # ---- structured actions
    Mutant(
        "a later argument does not see what was chosen",
        STRUCTURED + "head.py",
        "layer(values[..., 0].long())",
        "layer(0 * values[..., 0].long())",
        "tests/sb3/structured/test_invariants.py::test_a_target_sees_the_verb_unless_it_is_told_not_to",
    ),
    Mutant(
        "tokens of absent rows are handed on",
        STRUCTURED + "layout.py",
        "parts[name].masked_fill(~entities[name][1].unsqueeze(-1), 0.0)",
        "parts[name]",
        "tests/sb3/structured/test_invariants.py::test_kernels_and_modules_agree_where_nobody_is_there_to_point_at",
    ),
    Mutant(
        "a set is as likely as its weights, whatever the others weigh",
        STRUCTURED + "subsets.py",
        "padded.gather(-1, values.long()).sum(-1) - self.tree.log_total(self.n_taken)",
        "padded.gather(-1, values.long()).sum(-1)",
        "tests/sb3/structured/test_invariants.py::test_a_set_by_hand",
    ),
    # ---- attention and masking
    Mutant(
        "no mask",
        ATTENTION,
        "return torch.where(present, scores, fill).softmax(dim=-1) * some",
        "return scores.softmax(dim=-1)",
        "tests/nn/test_attention.py::TestAttend::test_masked_values_by_hand",
    ),
    Mutant(
        "additive mask of -1e4",
        ATTENTION,
        "torch.where(present, scores, fill).softmax",
        "(scores - 1e4 * ~present).softmax",
        "tests/nn/test_attention.py::TestAttend::test_absent_rows_do_not_win_against_very_negative_scores",
    ),
    Mutant(
        "softmax of nothing is NaN",
        ATTENTION,
        "torch.where(present, scores, fill).softmax(dim=-1) * some",
        "torch.where(present, scores, -torch.inf).softmax(dim=-1)",
        "tests/nn/test_attention.py::TestAttend::test_nothing_present_gives_zeros",
    ),
    Mutant(
        "values of absent rows are multiplied by zero, not replaced",
        ATTENTION,
        "k, v = k.masked_fill(absent, 0.0), v.masked_fill(absent, 0.0)",
        "k, v = k * ~absent, v * ~absent",
        "tests/nn/test_attention.py::TestAttend::test_absent_rows_have_no_influence_and_no_gradient",
    ),
    Mutant(
        "no 1/sqrt(d) in attend",
        ATTENTION,
        "1.0 / math.sqrt(q.shape[-1])",
        "1.0",
        "tests/nn/test_attention.py::TestAttend::test_values_by_hand",
    ),
    Mutant(
        "no 1/sqrt(d) in the module",
        ATTENTION,
        "1.0 / math.sqrt(self.w_q.in_features // self.n_heads)",
        "1.0",
        "tests/nn/test_attention.py::TestMultiHeadAttention::test_parity_with_torch",
    ),
    Mutant(
        "relations stay as blunt among many as among few",
        ATTENTION,
        "bias = None if bias is None else bias * count_scale",
        "bias = None if bias is None else bias",
        "tests/nn/test_relations.py::test_log_count_scaling_sharpens_relations_too",
    ),
    Mutant(
        "the balance of an inner layer shifts with the number of entities",
        ATTENTION,
        "if bias is None or self.scale_products:",
        "if True:",
        "tests/nn/test_relations.py::test_an_inner_layer_weighs_like_against_neutral_the_same_among_few_and_many",
    ),
    Mutant(
        "groups of a kind on scales of their own",
        "attn_rl/nn/relations/layers.py",
        "[[group for group in self.columns if group.kind == kind] for kind in kinds]",
        "[[group] for group in self.columns]",
        "tests/nn/test_relations.py::TestNetwork::test_groups_of_a_kind_are_scaled_alike",
    ),
    Mutant(
        "cosine forgets the length of the keys",
        ATTENTION,
        "nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)",
        "nn.functional.normalize(q, dim=-1), k",
        "tests/nn/test_attention.py::TestAttend::test_cosine_by_hand",
    ),
    Mutant(
        "the single query sees absent rows",
        ATTENTION,
        "            absorbed,\n            tokens,\n            present,\n",
        "            absorbed,\n            tokens,\n            None,\n",
        "tests/nn/test_attention.py::TestMultiHeadAttention::test_one_query_alone_equals_its_row_among_many",
    ),
    Mutant(
        "log-count scaling counts slots",
        ATTENTION,
        "self.count_scale(present.sum(dim=-1, dtype=tokens.dtype)",
        "self.count_scale(torch.ones_like(present).sum(dim=-1, dtype=tokens.dtype)",
        "tests/nn/test_attention.py::TestMultiHeadAttention::test_log_count_scaling_by_hand",
    ),
    Mutant(
        "no mask where something is always present",
        ATTENTION,
        "torch.where(present, scores, -torch.inf).softmax(dim=-1)",
        "scores.softmax(dim=-1)",
        "tests/backends/test_trimmed.py::test_relations_are_trimmed_along",
    ),
    # ---- updates without the padding
    Mutant(
        "a trimmed batch stays sorted",
        TRIMMING,
        "torch.cat(readout).index_select(0, back)",
        "torch.cat(readout)",
        "tests/backends/test_trimmed.py::test_relations_are_trimmed_along",
    ),
    Mutant(
        "tokens of a trimmed batch stay at the front",
        TRIMMING,
        "_indices(torch.cat(columns, 1), n_slots)",
        "_indices(torch.cat(columns, 1).sort(1)[0], n_slots)",
        "tests/backends/test_trimmed.py::test_relations_are_trimmed_along",
    ),
    Mutant(
        "trimmed to the fewest, not the most",
        TRIMMING,
        "present.sum(1).max()",
        "present.sum(1).min()",
        "tests/backends/test_trimmed.py::test_relations_are_trimmed_along",
    ),
    # ---- PPO
    Mutant(
        "ratios are never clipped",
        LOSSES,
        "advantages * ratio.clamp(1 - clip, 1 + clip)",
        "advantages * ratio",
        UPDATE_KILLER,
    ),
    Mutant("half the value loss", LOSSES, ".square().mean()", ".square().mean() / 2", UPDATE_KILLER),
    Mutant(
        "what was cut off is worth as much as now",
        ROLLOUTS,
        "self.gamma * values.flatten()",
        "values.flatten()",
        "tests/sb3/test_ppo.py::test_rollouts_are_stable_baselines3s_with_episodes_cut_off_valued_in_one_pass",
    ),
    Mutant(
        "advantages are not discounted",
        ROLLOUTS,
        "surprise[step] + weight[step] * advantage",
        "surprise[step] + goes_on[step] * advantage",
        "tests/sb3/test_collection.py::test_a_rollout_is_stored_as_stable_baselines3_stores_it",
    ),
    # ---- the map
    Mutant(
        "the tap sees a pattern that is not used (many queries)",
        ATTENTION,
        "pattern = self.tap(pattern, tokens, present)\n",
        "self.tap(pattern.clone(), tokens, present)\n",
        "tests/nn/test_attention.py::TestMultiHeadAttention::test_a_hook_on_the_tap_replaces_the_pattern_that_is_used",
    ),
    Mutant(
        "the tap sees a pattern that is not used (single query)",
        ATTENTION,
        "pattern = self.tap(pattern.unsqueeze(2), tokens, present)\n",
        "pattern = pattern.unsqueeze(2)\n        self.tap(pattern.clone(), tokens, present)\n",
        "tests/nn/test_attention.py::TestMultiHeadAttention::test_a_hook_on_the_tap_replaces_the_pattern_that_is_used",
    ),
    Mutant(
        "map from a second pass",
        "attn_rl/inspection/record/recorder.py",
        "    with torch.no_grad(), capture_pass(actor) as captured:\n        outputs = actor.act(tensors, states)\n",
        "    with torch.no_grad():\n        outputs = actor.act(tensors, states)\n"
        "        with capture_pass(actor) as captured:\n            actor.act(tensors, states)\n",
        "tests/inspection/test_recorder.py::test_one_pass_per_record_and_nothing_stays_attached[seek_model]",
    ),
    # ---- blocks and readout
    Mutant(
        "post-norm",
        ENCODER,
        "normed = self.norm_attention(x)",
        "normed = x",
        "tests/nn/test_encoder.py::test_a_block_is_pre_norm",
    ),
    Mutant(
        "every layer drops the rows that are not read",
        ENCODER,
        "first if last else None",
        "first",
        "tests/nn/test_encoder.py::test_only_the_rows_that_are_read_are_computed",
    ),
    Mutant(
        "unmasked mean",
        READOUT,
        "weight = present.unsqueeze(-1).to(x.dtype)",
        "weight = torch.ones_like(present).unsqueeze(-1).to(x.dtype)",
        "tests/nn/test_readout.py::test_mean_of_the_present_rows_by_hand",
    ),
    Mutant(
        "absent rows count as zeros in the maximum",
        READOUT,
        "lowest = torch.finfo(x.dtype).min",
        "lowest = 0.0",
        "tests/nn/test_readout.py::test_maximum_of_the_present_rows_by_hand",
    ),
    Mutant(
        "no token for the empty set",
        READOUT,
        "torch.where(present.any(1, keepdim=True), pooled, self.empty)",
        "pooled",
        "tests/nn/test_readout.py::test_a_learned_vector_stands_for_the_empty_set",
    ),
    Mutant(
        "sorting puts absent rows first",
        BASELINES,
        "masked_fill(~present, torch.inf)",
        "masked_fill(~present, -torch.inf)",
        "tests/nn/test_network.py::TestFlatNetwork::test_sorting_is_ascending_with_absent_rows_last",
    ),
    # ---- the normaliser
    Mutant(
        "the normaliser moves per minibatch",
        NORMALIZER,
        "        self.pending_count += count\n",
        "        self.pending_count += count\n        self._adopt()\n",
        "tests/sb3/test_policy.py::TestFirstRatio::test_the_probability_ratio_is_one_until_the_first_step[items-EntityPPO]",
    ),
    Mutant(
        "NaN in padding passes the gate",
        NORMALIZER,
        "normalizer(torch.where(present.unsqueeze(-1), x, 0.0), present)",
        "normalizer(x * present.unsqueeze(-1), present)",
        "tests/nn/test_normalizer.py::test_garbage_in_absent_rows_never_reaches_output_or_statistics",
    ),
    Mutant(
        "absent rows count in the statistics",
        NORMALIZER,
        "count = present.sum()",
        "count = torch.tensor(rows.shape[0])",
        "tests/nn/test_normalizer.py::test_merged_moments_equal_numpy_over_all_data",
    ),
    Mutant(
        "moments in single precision",
        NORMALIZER,
        "x.reshape(-1, x.shape[-1]).double()",
        "x.reshape(-1, x.shape[-1])",
        "tests/nn/test_normalizer.py::test_a_large_batch_far_from_zero_keeps_its_variance",
    ),
    Mutant(
        "rollouts are averaged without the shift between them",
        NORMALIZER,
        " + weight * (1 - weight) * shift**2",
        "",
        "tests/nn/test_normalizer.py::test_merged_moments_equal_numpy_over_all_data",
    ),
    Mutant(
        "what is pending is not saved",
        NORMALIZER,
        'self.register_buffer("pending_sum", torch.zeros(n_features, dtype=torch.float64))',
        'self.register_buffer("pending_sum", torch.zeros(n_features, dtype=torch.float64), persistent=False)',
        "tests/nn/test_normalizer.py::test_saved_and_loaded_to_the_bit_with_what_is_pending",
    ),
    # ---- heads and masks
    Mutant(
        "a uniform draw where nothing is valid",
        HEAD,
        "logits.masked_fill(~legal(valid), ",
        "logits.masked_fill(~valid, ",
        "tests/sb3/test_action_head.py::TestForbid::test_by_hand",
    ),
    Mutant(
        "the pointer ignores presence",
        HEAD,
        "forbid(self.point(tokens, latent), present, masks[i])",
        "forbid(self.point(tokens, latent), torch.ones_like(present), masks[i])",
        "tests/sb3/test_action_head.py::test_verbs_and_a_pointer",
    ),
    Mutant(
        "the pointer reads another type's tokens",
        EXTRACTOR,
        "            start += x.shape[1]\n",
        "            start += 1\n",
        "tests/sb3/test_action_head.py::test_the_pointer_reads_the_tokens_of_its_own_type",
    ),
    Mutant(
        "MaskablePPO's mask and presence overrule each other",
        MASKABLE,
        "valid = logits > torch.finfo(logits.dtype).min",
        "valid = torch.ones_like(flags)",
        "tests/sb3/test_maskable.py::test_masks_and_presence_both_count_and_neither_lets_the_other_draw_among_the_invalid",
    ),
    # ---- observations
    Mutant(
        "absent means there",
        "attn_rl/entity_types.py",
        "return x, blocks[entity_type.presence_key] > 0.5",
        "return x, blocks[entity_type.presence_key] >= 0",
        "tests/test_entities.py::TestSplit::test_blocks_by_name_whatever_the_order_in_the_observation",
    ),
    Mutant(
        "the ego sees a mirror image",
        "attn_rl/frames.py",
        "return cos * x + sin * y, cos * y - sin * x",
        "return cos * x + sin * y, sin * x - cos * y",
        "tests/test_frames.py::test_what_is_seen_is_how_far_ahead_and_to_the_left",
    ),
    Mutant(
        "positions are turned and not moved",
        "attn_rl/frames.py",
        "x, y = x - _over(x0, x), y - _over(y0, y)",
        "x, y = x, y",
        "tests/test_frames.py::test_moving_and_turning_the_scene_changes_nothing",
    ),
    Mutant(
        "values carry offsets along the axes",
        "attn_rl/nn/relations/terms.py",
        "offset if heading is None else turned(offset, heading[:, None, own])",
        "offset",
        "tests/test_frames.py::test_so_are_the_offsets_that_values_carry",
    ),
    Mutant(
        "categories are scaled",
        NORMALIZER,
        "if self.unscaled:",
        "if False:",
        "tests/test_categories.py::test_columns_of_categories_are_never_scaled",
    ),
    Mutant(
        "categories of absent rows are refused",
        "attn_rl/categories.py",
        "wrong = ~known if present is None else ~known & present.unsqueeze(-1)",
        "wrong = ~known",
        "tests/test_categories.py::test_observations_are_expanded_and_absent_rows_say_nothing",
    ),
    # ---- checkpoints
    Mutant(
        "checkpoints are written in place",
        CHECKPOINT,
        """    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        temporary.mkdir()
        for name, data in files.items():
            _write_synced(temporary / name, data)
        _sync_folder(temporary)
        _put_in_place(temporary, path)
""",
        """    temporary = path
    try:
        temporary.mkdir(exist_ok=True)
        for name, data in files.items():
            _write_synced(temporary / name, data)
""",
        "tests/training/run/test_checkpoint.py::test_a_full_disk_leaves_the_previous_checkpoint",
    ),
    Mutant(
        "digests are not compared",
        CHECKPOINT,
        "if hashlib.sha256(data).hexdigest() != digests[name]:",
        "if False:",
        "tests/training/run/test_checkpoint.py::test_every_flipped_bit_and_every_truncation_is_noticed",
    ),
    Mutant(
        "weights that are not finite are saved",
        CHECKPOINT,
        'refuse_non_finite(getattr(checkpoint, part), f"the {part} (not saved)")',
        "pass",
        "tests/training/run/test_checkpoint.py::test_a_state_that_is_not_finite_is_neither_saved_nor_read",
    ),
    Mutant(
        "links are followed",
        "attn_rl/regular_files.py",
        "elif not entry.is_file(follow_symlinks=False):",
        "elif not entry.is_file():",
        "tests/test_regular_files.py::test_whatever_is_no_regular_file_is_refused_before_anything_is_opened",
    ),
    Mutant(
        "the oldest checkpoints are kept",
        CHECKPOINT,
        "list_checkpoints(folder)[keep:]",
        "list_checkpoints(folder)[:-keep]",
        "tests/training/run/test_checkpoint.py::test_only_the_newest_are_kept",
    ),
    # ---- going on
    Mutant(
        "a resumed run draws from generators of its own",
        SAVING,
        'set_generators(self._resumed.state["generators"])',
        "pass",
        RESUME_KILLER,
    ),
    Mutant(
        "TensorBoard keeps what comes again",
        RESUME,
        'rewind_events(folder, checkpoint.state["events"])',
        "pass",
        RESUME_KILLER,
    ),
    Mutant(
        "native environments begin new episodes",
        "attn_rl/training/run/environment_state.py",
        'adapter.set_state(state["batch"])',
        "pass",
        RESUME_KILLER,
    ),
    Mutant(
        "the optimiser begins anew",
        SNAPSHOT,
        "    agent.policy.optimizer.load_state_dict(unpack_optimizer(checkpoint, agent.policy.optimizer))\n",
        "",
        "tests/vec_envs/test_replayable.py::test_an_agent_resumes_in_the_middle_of_third_party_episodes",
    ),
    Mutant(
        "a replay is not compared",
        REPLAYABLE,
        'exact = digest(self._obs) == saved["seen"]',
        "exact = True",
        "tests/vec_envs/test_replayable.py::test_an_environment_that_cannot_be_put_back_says_so_and_begins_anew",
    ),
    Mutant(
        "a replaced worker repeats its episodes",
        WORKERS,
        "first + self.num_envs * int(self.restarts[index])",
        "first",
        "tests/vec_envs/test_supervised.py::test_a_failing_worker_is_replaced_and_counted[dies]",
    ),
    Mutant(
        "a worker's traceback is lost",
        WORKERS,
        "remote.send(_Failure(traceback.format_exc()))",
        "pass",
        "tests/vec_envs/test_supervised.py::test_a_failing_worker_is_named[raises]",
    ),
    Mutant(
        "torch's generator is not put back",
        GENERATORS,
        'torch.set_rng_state(_decode(states["torch"]))',
        "pass",
        GENERATORS_KILLER,
    ),
    Mutant(
        "NumPy's generator is not put back",
        GENERATORS,
        "np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, cached))",
        "pass",
        GENERATORS_KILLER,
    ),
    Mutant(
        "half of a pair of normal draws is forgotten",
        GENERATORS,
        "position, has_gauss, cached))",
        "position, 0, 0.0))",
        GENERATORS_KILLER,
    ),
    # ---- guards
    Mutant(
        "a reward of NaN passes",
        GUARDED_ENV,
        "if np.abs(rewards).max() <= self.max_abs_reward:",
        "if not np.abs(rewards).max() > self.max_abs_reward:",
        "tests/training/test_guarded_ppo.py::test_an_impossible_reward_stops_training[nan]",
    ),
    Mutant(
        "presence may be anything",
        EXPECTED_BLOCKS,
        "wrong = (block != 0) & (block != 1)",
        "return None",
        "tests/training/test_guarded_ppo.py::test_an_impossible_observation_stops_training_before_it_is_learned_from[presence-1]",
    ),
    Mutant(
        "garbage in absent rows stops the run",
        EXPECTED_BLOCKS,
        "wrong &= np.expand_dims(obs[self.presence_key] > 0.5, self.presence_axis)",
        "pass",
        "tests/training/test_guarded_ppo.py::test_absent_rows_may_hold_anything",
    ),
    Mutant(
        "terminal observations are not looked at",
        GUARDED_ENV,
        "if ends:",
        "if False:",
        "tests/training/test_guarded_ppo.py::test_a_terminal_observation_is_checked_too",
    ),
    Mutant(
        "nobody looks before DummyVecEnv casts",
        "attn_rl/vec_envs/raw_observations.py",
        "if isinstance(env, DummyVecEnv):",
        "if False:",
        "tests/vec_envs/test_wrong_observations.py::test_a_second_agent_on_the_same_environment_counts_its_own_steps",
    ),
    Mutant(
        "predict answers anything",
        GUARDS,
        "if self.check_observations and",
        "if False and",
        "tests/training/test_predict.py::test_a_presence_column_excuses_absent_rows_only",
    ),
    Mutant(
        "loss and gradients are not looked at",
        GUARDS,
        "if not (np.isfinite(float(norm)) and np.isfinite(loss)):",
        "if False:",
        "tests/training/test_guarded_ppo.py::test_a_loss_that_is_not_finite_reaches_no_weight[returns-inf]",
    ),
    Mutant(
        "weights are not looked at",
        GUARDS,
        "if not np.isfinite(float(size)):",
        "if False:",
        "tests/training/test_guarded_ppo.py::test_a_weight_that_a_step_made_non_finite_is_noticed_at_once",
    ),
]

CHOOSE, PROGRAM, STAGES = "attn_rl/backends/choose.py", "attn_rl/backends/kernels/program.py", "attn_rl/nn/stages.py"
KERNELS_KILLER = "tests/backends/test_kernels.py::test_widths_off_and_on_the_vector_width"
if why_not() is None:
    MUTANTS += [
        Mutant(
            "the kernels do not scale with the count",
            PROGRAM,
            "= attention.count_factor or 0.0, attention.scales_products",
            "= 0.0, attention.scales_products",
            KERNELS_KILLER,
        ),
        Mutant(
            "the kernels collect no statistics",
            CHOOSE,
            "    network.collect(ego, entities)  # the edges' statistics see the batch in ``learn``\n",
            "",
            KERNELS_KILLER,
        ),
        Mutant(
            "features of a kind are not scaled in the kernels",
            PROGRAM,
            "self._scaling(kind.scaling, stage.scaling, kind.n_scales)",
            "pass",
            KERNELS_KILLER,
        ),
        Mutant(
            "the gradient of features starts at one",
            "attn_rl/backends/kernels/mlp.py",
            "d_x = zeros(*ctx.x.shape)",
            "d_x = zeros(*ctx.x.shape) + 1",
            "tests/backends/test_mlp.py::test_outputs_and_gradients_are_those_of_the_modules",
        ),
        Mutant(
            "a second pass forgets the gradients of the first",
            "attn_rl/backends/kernels/weights.py",
            "    if weight.grad is None:\n",
            "    if True:\n",
            "tests/backends/test_kernels.py::test_gradients_add_up_and_frozen_weights_get_none",
        ),
        Mutant(
            "nobody asks who listens to gradients",
            CHOOSE,
            "if waits_for_gradient(weight):",
            "if False:",
            "tests/backends/test_choose.py::test_a_hook_on_a_weights_gradient_is_called",
        ),
        Mutant(
            "a subclass is taken for what it descends from",
            STAGES,
            'if cls not in PRIMITIVES and "stage" not in vars(cls):',
            'if cls not in PRIMITIVES and not hasattr(cls, "stage"):',
            "tests/backends/test_choose.py::test_a_subclass_of_any_part_runs_itself",
        ),
        Mutant(
            "hooks are passed by",
            "attn_rl/nn/changes.py",
            "if listeners(part) or any(GLOBAL_HOOKS):",
            "if False:",
            "tests/backends/test_choose.py::test_a_hook_on_any_part_is_called_acting_and_learning",
        ),
        Mutant(
            "what was looked at once is never looked at again",
            CHOOSE,
            "if known is not None and known.snapshot.holds():",
            "if known is not None:",
            "tests/backends/test_choose.py::test_a_changed_part_runs_itself",
        ),
        Mutant(
            "strengths that have changed are not noticed",
            PROGRAM,
            "known is None or not all(map(torch.equal, known[0], relation.depends_on))",
            "known is None",
            "tests/backends/test_kernels.py::test_weights_changed_in_any_way_are_seen",
        ),
        Mutant(
            "the kernels are told that values are not clipped",
            "attn_rl/backends/kernels/losses.py",
            "-1.0 if weights.clip_values is None else weights.clip_values",
            "-1.0",
            "tests/backends/test_losses.py::test_figures_and_gradients_are_those_of_autograd",
        ),
        Mutant(
            "the tap is shown another pattern than the one used (kernels)",
            PROGRAM,
            "self._taps[i].show(pattern, tokens, present)",
            "self._taps[i].show(pattern.flip(1), tokens, present)",
            KERNELS_KILLER,
        ),
        Mutant(
            "a policy acts in one call though a pattern is observed",
            "attn_rl/backends/heads.py",
            'return "somebody follows it slot by slot" if whole.program.network.observed else whole',
            "return whole",
            "tests/sb3/test_acting.py::test_one_call_gives_the_bits_of_acting_part_by_part",
        ),
        Mutant(
            "a hook that came later is not noticed",
            "attn_rl/backends/snapshot.py",
            " and not any(self._empty)",
            "",
            "tests/backends/test_choose.py::test_a_hook_on_any_part_is_called_acting_and_learning",
        ),
        Mutant(
            "a wrong backend is believed",
            PPO,
            "if not apart <= TOLERANCE:",
            "if False:",
            "tests/sb3/test_first_minibatch.py::"
            "test_a_backend_that_computes_something_else_is_found_on_the_first_minibatch",
        ),
    ]
KILLERS = sorted({mutant.killer for mutant in MUTANTS})


@pytest.fixture(scope="module")
def verdicts() -> list[list[str] | None]:
    """Which tests failed, for every mutant and its killer."""
    return run_jobs([(mutant, [mutant.killer]) for mutant in MUTANTS])


def test_mutants_have_names_of_their_own():
    assert [name for name, n in Counter(mutant.name for mutant in MUTANTS).items() if n > 1] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_still_fits_the_source(mutant):
    compile(mutated(mutant), mutant.path, "exec")


@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=[mutant.name for mutant in MUTANTS])
def test_mutant_is_killed(number, verdicts):
    assert verdicts[number] is not None, f"{MUTANTS[number].killer} could not run"
    assert verdicts[number], f"{MUTANTS[number].killer} passes although: {MUTANTS[number].name}"


@pytest.mark.slow  # the fast tests run all killers anyway, in their own process
def test_killers_pass_on_the_sound_source():
    assert run_jobs([(None, KILLERS)]) == [[]]


@pytest.mark.slow
def test_full_matrix():
    """Every mutant against every killer: how many of them notice each mistake."""
    found = run_jobs([(mutant, KILLERS) for mutant in MUTANTS])
    for mutant, failed in zip(MUTANTS, found, strict=True):
        assert failed is not None, mutant.name
        killers = [
            killer for killer in KILLERS if any(test == killer or test.startswith(f"{killer}[") for test in failed)
        ]
        print(f"{len(killers):3d} of {len(KILLERS)} killers: {mutant.name}")
        assert mutant.killer in killers
