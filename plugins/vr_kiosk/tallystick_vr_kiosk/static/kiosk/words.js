// Every sentence of the page, in both languages.
export const WORDS = {
  en: {
    touch: "Touch to begin", pairTitle: "Pair this device", pairText: "Approve these letters on another device, where the number must be the same:",
    pairHow: "tally device approve", pairNumber: "Number", offline: "No network. What you do now counts later.", queued: "{n} waiting",
    identify: "Who is it?", scan: "Scan your code", scanText: "Hold the code of your phone or card in front of the camera.",
    noCamera: "No camera here. Use a scanner, or type the code.", type: "Type the code", phone: "Phone and PIN", phoneLabel: "Phone number or member id",
    pin: "PIN", next: "Continue", back: "Back", finish: "Finish", wrong: "That did not work. Please try again.", tooMany: "Too many tries. Please wait a minute.",
    points: "points", pending: "{n} pending", rewards: "Rewards", rewardsText: "Something for your points", checkIn: "Check in", checkInText: "You are here: say so",
    draw: "Lucky draw", drawText: "Turn the wheel", showroom: "Showroom", showroomText: "Walk in and look around", left: "{n} left", gone: "None left",
    missing: "{n} more points", goal: "{n} more points: {reward}", take: "Take it", confirmTitle: "Take “{reward}”?", confirmText: "{n} points will be spent; {left} are left.", confirmOffline: "{n} points will be spent.", enterPin: "Enter your PIN",
    cancel: "Not now", thanks: "Enjoy it!", thanksText: "It is yours: {reward}.", receipt: "Receipt", print: "Print", entry: "Entry", remaining: "Left",
    checkedIn: "You are checked in.", already: "You were here today already. See you tomorrow!", gained: "+{n} points", drawn: "You drew: {prize}",
    pendingText: "It counts as soon as the network is back.", still: "Are you still there?", stillText: "Your session ends in {n} s.", stay: "I am here",
    refused: "This device was set aside.", refusedText: "Please call our staff.", locked: "Back in a moment", again: "Pair again", language: "中文", clear: "Clear",
    insufficient: "There are not enough points for that.", confirmation: "This needs your PIN.", notOffered: "This is not offered here.", ended: "The session has ended.",
    printing: "Your receipt is being printed: {name}", printed: "Please take your receipt: {name}", noPrinter: "There is no receipt printer here. This screen prints instead.",
    printerSilent: "The receipt printer does not answer. This screen prints instead.", printHere: "Without network this screen prints.",
    offlineReward: "Only while we are connected.", offlinePin: "Without network please scan or type a code.", hello: "Welcome", keypad: "Keypad", close: "Close", tier: "Tier",
  },
  zh: {
    touch: "轻触开始", pairTitle: "设备配对", pairText: "请在另一台设备上批准以下配对码，并核对数字是否一致：",
    pairHow: "tally device approve", pairNumber: "核对数字", offline: "网络已断开，您的操作稍后计入。", queued: "{n} 项待同步",
    identify: "请识别身份", scan: "扫描会员码", scanText: "请将手机或会员卡上的二维码对准摄像头。",
    noCamera: "没有摄像头，请使用扫码枪或输入识别码。", type: "输入识别码", phone: "手机号与 PIN", phoneLabel: "手机号或会员号",
    pin: "PIN", next: "继续", back: "返回", finish: "结束", wrong: "未能识别，请重试。", tooMany: "尝试次数过多，请一分钟后再试。",
    points: "积分", pending: "{n} 待生效", rewards: "兑换奖励", rewardsText: "用积分换好礼", checkIn: "签到", checkInText: "今天来过啦",
    draw: "幸运抽奖", drawText: "转动转盘", showroom: "虚拟展厅", showroomText: "进去逛一逛", left: "剩余 {n}", gone: "已兑完",
    missing: "还差 {n} 积分", goal: "还差 {n} 积分即可兑换{reward}", take: "兑换", confirmTitle: "兑换“{reward}”？", confirmText: "将使用 {n} 积分，剩余 {left} 积分。", confirmOffline: "将使用 {n} 积分。", enterPin: "请输入 PIN",
    cancel: "暂不", thanks: "兑换成功！", thanksText: "请取走您的{reward}。", receipt: "凭条", print: "打印", entry: "流水号", remaining: "余额",
    checkedIn: "签到成功。", already: "今天已签到，明天见！", gained: "+{n} 积分", drawn: "您抽中了：{prize}",
    pendingText: "网络恢复后即刻生效。", still: "您还在吗？", stillText: "会话将在 {n} 秒后结束。", stay: "我还在",
    refused: "此设备已停用。", refusedText: "请联系工作人员。", locked: "马上回来", again: "重新配对", language: "English", clear: "清除",
    insufficient: "积分不足。", confirmation: "此操作需要 PIN。", notOffered: "此处不提供该项。", ended: "会话已结束。",
    printing: "正在打印凭条：{name}", printed: "请取走凭条：{name}", noPrinter: "此处没有小票打印机，改由本机打印。",
    printerSilent: "小票打印机没有响应，改由本机打印。", printHere: "网络已断开，改由本机打印。",
    offlineReward: "联网后才可兑换。", offlinePin: "断网时请扫描或输入会员码。", hello: "欢迎", keypad: "数字键盘", close: "关闭", tier: "等级",
  },
};

export function speaker(language) {
  const words = WORDS[language] ?? WORDS.en;
  return (name, values = {}) => words[name].replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

export const inLanguage = (texts, language) => texts?.[language] ?? texts?.en ?? Object.values(texts ?? {})[0] ?? "";
