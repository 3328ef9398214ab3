// Every sentence of a showroom, in both languages.
export const WORDS = {
  en: { vr: "Enter VR", leave: "Leave", list: "All things here", try: "Try it", wish: "Put on my wish list", wished: "On your wish list", redeem: "Take it for {n} points", gained: "+{n} points", offline: "It counts when the network is back.",
    refused: "Not possible now.", guests: "That is for invited guests.", code: "Type the code of your phone", go: "Walk in", pair: "Approve these letters and this number on another device", guide: "Guide", attend: "I am here", close: "Close",
    keys: "Click the floor to walk there, drag to look around; or use the arrow keys.", confirm: "Take {reward} for {n} points?", take: "Take it", cancel: "Not now", taken: "It is yours: {reward}.", pin: "Your PIN", connected: "Only while we are connected.",
    insufficient: "There are not enough points for that.", gone: "None left.", wrong: "That did not work. Please try again.", ended: "The session has ended.", points: "{n} points", now: "now, until {until}", later: "from {since}",
    still: "Are you still there?", stillText: "Your visit ends in {n} s.", stay: "I am here", done: "Done: {task}", tried: "Nice to hold, is it not?", thanks: "Glad that you came!", setAside: "This device was set aside. Please call our staff.", none: "There is no such showroom." },
  zh: { vr: "进入 VR", leave: "离开", list: "本室展品", try: "试用", wish: "加入心愿单", wished: "已在心愿单", redeem: "{n} 积分兑换", gained: "+{n} 积分", offline: "网络恢复后计入。",
    refused: "暂时无法进行。", guests: "仅限受邀嘉宾。", code: "请输入手机上的识别码", go: "进入展厅", pair: "请在另一台设备上批准以下配对码和数字", guide: "导览台", attend: "我来参加", close: "关闭",
    keys: "点击地面即可走过去，拖动环顾；也可使用方向键。", confirm: "用 {n} 积分兑换{reward}？", take: "兑换", cancel: "暂不", taken: "请取走您的{reward}。", pin: "您的 PIN", connected: "联网后才可兑换。",
    insufficient: "积分不足。", gone: "已兑完。", wrong: "未能识别，请重试。", ended: "会话已结束。", points: "{n} 积分", now: "进行中，至 {until}", later: "{since} 开始",
    still: "您还在吗？", stillText: "参观将在 {n} 秒后结束。", stay: "我还在", done: "已完成：{task}", tried: "手感不错吧？", thanks: "感谢光临！", setAside: "此设备已停用，请联系工作人员。", none: "没有这个展厅。" },
};
