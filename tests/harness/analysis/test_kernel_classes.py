"""Names as profilers print them, cut behind what matters."""

from __future__ import annotations

import pytest

from innerloop.harness.analysis.kernel_classes import CLASSES, RULES, TITLES, class_of, nested_class

KNOWN = {
    "gemm": """
        nvjet_tst_384x8_64x4_2x1_v_bz_TNT
        nvjet_sm90_tst_192x208_64x4_2x1_v_bz_coopB_bias_TNT
        sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel
        ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_tn
        void cublasLt::splitKreduce_kernel<32, 16, int, __nv_bfloat16, __nv_bfloat16, float>
        std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, __nv_bfloat16>
        void gemv2T_kernel_val<int, int, __nv_bfloat16, __nv_bfloat16, __nv_bfloat16, float, 128, 16, 4, 4>
        void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8>
        void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int, int, int, int>
        void cutlass::device_kernel<vllm::cutlass_3x_gemm<cutlass::float_e4m3_t, cutlass::bfloat16_t>
        void marlin::Marlin<__nv_bfloat16, 1125899907892224l, 256, 1, 8, 8, 4, 4, false>
        void machete::prepack_B<machete::PrepackedLayoutBTemplate>
        void vllm::awq::gemm_forward_4bit_cuda_m16nXk32<128>
        void deep_gemm::sm90_fp8_gemm_1d2d_impl<0u, 4096u, 7168u, 1u, 128u, 128u, 128u, 128u>
        void fused_a_gemm_kernel<1, 2112, 7168, 16, 8, 256, 16>(__nv_bfloat16*, __nv_bfloat16 const*)
        mm_kernel_general_host_tma
        triton_tem_fused_mm_3
        void turbomind::gemm::gemm_kernel<turbomind::gemm::GemmUniversal<turbomind::gemm::Sm90_s64n32>
        void tensorrt_llm::kernels::weight_only::kernel<w4a16>
        aten::mm
        aten::bmm
        aten::addmm
        aten::linear
        aten::matmul
        _C::onednn_mm
        mkldnn::_linear_pointwise
    """,
    "moe": """
        fused_moe_kernel
        void vllm::moe::topkGating<8, 64, 4, 16, 32, int, float>
        void vllm::moe::moe_align_block_size_kernel<int>
        void tensorrt_llm::kernels::cutlass_kernels::finalizeMoeRoutingKernel<__nv_bfloat16>
    """,
    "attention": """
        void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwdSm90<2>
        void flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128, 64, 128, 4, false, cutlass::bfloat16_t>
        void flash::flash_fwd_splitkv_combine_kernel<Flash_fwd_kernel_traits<128, 64, 128, 4>
        flash::prepare_varlen_num_blocks_kernel(int, int, int, int const*, int const*)
        kernel_unified_attention_2d
        kernel_unified_attention_3d
        reduce_segments
        void flashinfer::BatchDecodeWithPagedKVCacheKernel<(flashinfer::PosEncodingMode)0, 2u, 4u, 8u>
        void flashinfer::BatchPrefillWithPagedKVCacheKernel<flashinfer::KernelTraits<(flashinfer::MaskMode)1>
        void flashinfer::PersistentVariableLengthMergeStatesKernel<8u, 16u, 8u, 4u, __nv_bfloat16>
        fmhaSm100fKernel_QkvBfloat16OBfloat16H64PagedKvCausalP64VarSeqQ128Kv128PersistentContext
        fmha_v2_flash_attention_bf16_64_128_S_q_paged_kv_128_causal_sm90_kernel_nl
        kernel_mha
        _fwd_grouped_kernel_stage1
        _fwd_kernel_stage2
        void turbomind::attention_kernel<turbomind::AttentionUniversal<turbomind::arch::Sm80>
        void tensorrt_llm::mmha::masked_multihead_attention_kernel<unsigned short>
        aten::scaled_dot_product_attention
        aten::_scaled_dot_product_flash_attention_for_cpu
        vllm::unified_attention_with_output
        _C::cpu_attention_with_kv_cache
    """,
    "kv_write": """
        void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16, __nv_bfloat16, (vllm::Fp8KVCacheDataType)0>
        reshape_and_cache_kernel_flash
        void vllm::concat_and_cache_mla_kernel<__nv_bfloat16, __nv_bfloat16>
        void flashinfer::AppendPagedKVCacheKernel<64u, 8u>
        void turbomind::ProcessKV_v2<64, 128, 4, __nv_bfloat16>
        void tensorrt_llm::kernels::applyBiasRopeUpdateKVCacheV2<__nv_bfloat16, __nv_bfloat16>
        void at::native::index_elementwise_kernel<128, 4, at::native::index_put_kernel_impl<at::native::OpaqueType<2> >
        store_kvcache
        _C::cpu_attn_reshape_and_cache
        vllm::unified_kv_cache_update
        aten::index_put_
        aten::index_copy_
    """,
    "norm_activation": """
        void vllm::rms_norm_kernel<c10::BFloat16, 8, 2>
        std::enable_if<true, void>::type vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8>
        void vllm::act_and_mul_kernel<c10::BFloat16, &vllm::silu_kernel<c10::BFloat16>, true>
        void vllm::rotary_embedding_kernel<c10::BFloat16, true>
        void vllm::dynamic_per_token_scaled_fp8_quant_kernel<c10::BFloat16, c10::Float8_e4m3fn>
        triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0
        triton_poi_fused_mul_silu_slice_1
        void flashinfer::norm::FusedAddRMSNormKernel<8u, __nv_bfloat16>
        void flashinfer::norm::GemmaRMSNormKernel<8u, __nv_bfloat16>
        kernel_cutlass_kernel_flashinfernormkernelsrmsnormRMSNormKernel_object_at__tensorptrbf16gmem
        void flashinfer::activation::act_and_mul_kernel<__nv_bfloat16>
        void flashinfer::BatchQKApplyRotaryPosIdsCosSinCacheEnhancedHeadParallelismKernel<true>
        void turbomind::kernel::RMSNorm<__nv_bfloat16, float, 8>
        void turbomind::activation_kernel<turbomind::SiluActivation>
        void tensorrt_llm::kernels::quantize_with_block_size<(tensorrt_llm::BlockScaleQuantizationType)2>
        void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>
        _C::rms_norm
        _C::silu_and_mul
        aten::silu
        aten::mul
    """,
    "sampling": """
        void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::ArgMaxOps<float>, unsigned int>
        void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float, float, float>
        void flashinfer::sampling::TopKTopPSamplingFromProbKernel<1024u>
        void topk_stage_1_opt3<float, 256, 8>
        void turbomind::sampling<float, 128>
        void at::native::sbtopk::gatherTopK<float, unsigned int, 2, false>
        aten::argmax
        _C::greedy_argmax
        aten::_softmax
    """,
    "communication": """
        ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)
        void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>
        void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<(AllReduceFusionPattern)1>
        void tensorrt_llm::kernels::ar_fusion::allreduce_fusion_kernel_oneshot
    """,
    "copies": """
        Memcpy HtoD (Pinned -> Device)
        Memcpy DtoH
        Memset (Device)
        void at::native::(anonymous namespace)::CatArrayBatchedCopy<at::native::(anonymous namespace)::OpaqueType<2u>
        void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<int>, std::array<char*, 1ul> >
        void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)
        void at::native::(anonymous namespace)::indexSelectLargeIndex<c10::BFloat16, long, unsigned int, 2, 2, -2, true>
        void turbomind::kernel::embeddingLookupKernel<__nv_bfloat16>
        aten::copy_
        aten::index_select
        aten::embedding
        aten::cat
        aten::item
    """,
    "other": """
        _compute_slot_mapping_kernel
        _C::get_scheduler_metadata
        a_kernel_that_nobody_knows
    """,
}
CASES = [(name, wanted) for wanted, names in KNOWN.items() for line in names.splitlines() if (name := line.strip())]


@pytest.mark.parametrize(("name", "wanted"), CASES, ids=[name[:60] for name, _ in CASES])
def test_a_name_is_known_by_what_it_does(name, wanted):
    assert class_of(name) == wanted


def test_every_class_has_a_rule_but_other_and_a_title():
    assert {name for name, _ in RULES} | {"other"} == set(CLASSES) == set(TITLES)


@pytest.mark.parametrize(
    ("name", "parent", "wanted"),
    [
        ("aten::bmm", "attention", "attention"),  # what attention calls is attention
        ("aten::_softmax", "attention", "attention"),
        ("_C::cpu_attn_reshape_and_cache", "attention", "kv_write"),  # but for this
        ("aten::copy_", "gemm", "gemm"),  # helpers belong to what they help
        ("aten::add", "sampling", "sampling"),
        ("aten::mm", "copies", "gemm"),
        ("aten::copy_", "norm_activation", "copies"),
        ("aten::mul", None, "norm_activation"),
    ],
)
def test_inside_another_operator_a_helper_is_part_of_it(name, parent, wanted):
    assert nested_class(name, parent) == wanted
